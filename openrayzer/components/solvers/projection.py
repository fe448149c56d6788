"""Points of views, projected into their neighbours, with the derivatives that bundle adjustment needs."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from openrayzer.geometry.rotations import hat
from openrayzer.types import select_views

NEAREST_DEPTH = 0.1
"""Smallest depth of a point in a neighbour's camera, in units of the scene."""


@dataclass(frozen=True)
class Lens:
    """Pinhole lenses in isotropic image coordinates, see ``Bundle``.

    Attributes:
        focal: focal lengths in x and y, up to the common factor ``exp(Bundle.log_focal)``.
        centre: principal points.
    """

    focal: Float[Tensor, "b v 2"]
    centre: Float[Tensor, "b v 2"]


@dataclass(frozen=True)
class Bundle:
    """The unknowns of bundle adjustment.

    Image coordinates are isotropic: pixels from the middle of the image, divided by sqrt(h * w). A camera ray is
    ``((u - centre) / focal, 1)``, and a point is its ray divided by its inverse depth.

    Attributes:
        rotation: world-to-camera rotations.
        translation: world-to-camera translations.
        inverse_depth: inverse depth of each point of each view.
        log_focal: logarithm of the factor that all focal lengths of a scene share.
    """

    rotation: Float[Tensor, "b v 3 3"]
    translation: Float[Tensor, "b v 3"]
    inverse_depth: Float[Tensor, "b v n"]
    log_focal: Float[Tensor, " b"]


@dataclass(frozen=True)
class Projection:
    """Points of view i in the images of its neighbours j.

    Attributes:
        relative_rotation, relative_translation: pose of camera j relative to camera i: ``x_j = R x_i + t``.
        point: image coordinates of each point in image j; its last axis is (x, y).
        in_front: whether the depth in camera j is above ``NEAREST_DEPTH``.
        by_pose: derivative of ``point`` by a small rotation and translation of camera j, applied on the left.
        by_depth: derivative by the inverse depth.
        by_focal: derivative by ``log_focal``.
    """

    relative_rotation: Float[Tensor, "b v k 3 3"]
    relative_translation: Float[Tensor, "b v k 3"]
    point: Float[Tensor, "b v k n 2"]
    in_front: Float[Tensor, "b v k n"]
    by_pose: tuple[Float[Tensor, "b v k 6 n"], Float[Tensor, "b v k 6 n"]]
    by_depth: tuple[Float[Tensor, "b v k n"], Float[Tensor, "b v k n"]]
    by_focal: tuple[Float[Tensor, "b v k n"], Float[Tensor, "b v k n"]]


def relative_poses(bundle: Bundle, neighbours: Int[Tensor, "b v k"]) -> tuple[Tensor, Tensor]:
    """Rotation (b, v, k, 3, 3) and translation (b, v, k, 3) from each camera to its neighbours."""
    b, v, k = neighbours.shape
    rotation = select_views(bundle.rotation, neighbours.flatten(1)).unflatten(1, (v, k))
    translation = select_views(bundle.translation, neighbours.flatten(1)).unflatten(1, (v, k))
    relative = rotation @ bundle.rotation[:, :, None].mT
    return relative, translation - (relative @ bundle.translation[:, :, None, :, None])[..., 0]


def project(
    bundle: Bundle, lens: Lens, points: Float[Tensor, "n 2"], inverse_depth: Float[Tensor, "b v n"],
    neighbours: Int[Tensor, "b v k"], *, derivatives: bool = True,
) -> Projection:
    """Project ``points`` of each view, which have ``inverse_depth``, into the neighbours of the view."""
    b, v, k = neighbours.shape
    factor = bundle.log_focal.exp()[:, None, None]
    own = factor * lens.focal
    there = select_views(own, neighbours.flatten(1)).reshape(b, v, k, 2, 1)
    centre = select_views(lens.centre, neighbours.flatten(1)).reshape(b, v, k, 2, 1)
    flat = (points.mT - lens.centre[..., None]) / own[..., None]  # b v 2 n
    ray = torch.cat([flat, torch.ones_like(flat[:, :, :1])], dim=2)
    rotation, translation = relative_poses(bundle, neighbours)
    rho = inverse_depth[:, :, None]
    y = rotation @ ray[:, :, None] + translation[..., None] * rho[:, :, :, None]  # b v k 3 n
    front = y[..., 2, :] > NEAREST_DEPTH
    inverse = 1 / y[..., 2, :].clamp(min=NEAREST_DEPTH)
    a, c = y[..., 0, :] * inverse, y[..., 1, :] * inverse
    fx, fy = there[..., 0, :], there[..., 1, :]
    point = torch.stack([fx * a + centre[..., 0, :], fy * c + centre[..., 1, :]], dim=-1)
    if not derivatives:
        none = (a, c)
        return Projection(rotation, translation, point, front.to(a.dtype), none, none, none)
    nothing, q = torch.zeros_like(a), rho * inverse
    by_pose = (
        fx[..., None, :] * torch.stack([-a * c, 1 + a * a, -c, q, nothing, -q * a], dim=3),
        fy[..., None, :] * torch.stack([-1 - c * c, a * c, a, nothing, q, -q * c], dim=3),
    )
    tx, ty, tz = (translation[..., axis, None] for axis in range(3))
    by_depth = (fx * (tx - a * tz) * inverse, fy * (ty - c * tz) * inverse)
    # The projection grows with the focal length, and the ray's slope shrinks with it.
    slope = -(rotation[..., :2] @ flat[:, :, None])
    by_focal = (
        fx * (a + (slope[..., 0, :] - a * slope[..., 2, :]) * inverse),
        fy * (c + (slope[..., 1, :] - c * slope[..., 2, :]) * inverse),
    )
    return Projection(rotation, translation, point, front.to(a.dtype), by_pose, by_depth, by_focal)


def adjoint(rotation: Float[Tensor, "*batch 3 3"], translation: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 6 6"]:
    """Adjoint of a rigid motion for twists (rotation, translation): a twist before the motion as one after it."""
    upper = torch.cat([rotation, torch.zeros_like(rotation)], dim=-1)
    lower = torch.cat([hat(translation) @ rotation, rotation], dim=-1)
    return torch.cat([upper, lower], dim=-2)
