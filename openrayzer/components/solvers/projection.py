"""Points of views, projected into their neighbours, with the derivatives that bundle adjustment needs."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from openrayzer.geometry.rotations import hat
from openrayzer.types import select_views

NEAREST_DEPTH = 0.1
"""Smallest depth of a point in a neighbour's camera, as a share of its depth in its own view."""


@dataclass(frozen=True)
class Lenses:
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
        in_front: whether the depth in camera j is above this share.
        by_pose: derivatives of x and of y by a small rotation and translation of camera j, applied on the left, each
            (b, v, k, 6, n).
        by_depth: derivatives by the inverse depth, each (b, v, k, n).
        by_focal: derivatives by ``log_focal``, each (b, v, k, n).
    """

    relative_rotation: Float[Tensor, "b v k 3 3"]
    relative_translation: Float[Tensor, "b v k 3"]
    point: Float[Tensor, "b v k n 2"]
    in_front: Float[Tensor, "b v k n"]
    by_pose: tuple[Tensor, Tensor]
    by_depth: tuple[Tensor, Tensor]
    by_focal: tuple[Tensor, Tensor]


def relative_poses(bundle: Bundle, neighbours: Int[Tensor, "b v k"]) -> tuple[Tensor, Tensor]:
    """Rotation (b, v, k, 3, 3) and translation (b, v, k, 3) from each camera to its neighbours."""
    v, k = neighbours.shape[1:]
    rotation = select_views(bundle.rotation, neighbours.flatten(1)).unflatten(1, (v, k))
    translation = select_views(bundle.translation, neighbours.flatten(1)).unflatten(1, (v, k))
    relative = rotation @ bundle.rotation[:, :, None].mT
    return relative, translation - (relative @ bundle.translation[:, :, None, :, None])[..., 0]


def project(bundle: Bundle, lens: Lenses, points: Float[Tensor, "n 2"], neighbours: Int[Tensor, "b v k"]) -> Projection:
    """Project the points of each view, which have the inverse depths of ``bundle``, into its neighbours."""
    flat, seen = _seen(bundle, lens, points, bundle.inverse_depth, neighbours)
    rotation, translation, (fx, fy), (a, c), inverse, point, in_front = seen
    nothing, q = torch.zeros_like(a), bundle.inverse_depth[:, :, None] * inverse
    by_pose = (
        fx[..., None, :] * torch.stack([-a * c, 1 + a * a, -c, q, nothing, -q * a], dim=3),
        fy[..., None, :] * torch.stack([-1 - c * c, a * c, a, nothing, q, -q * c], dim=3),
    )
    tx, ty, tz = (translation[..., axis, None] for axis in range(3))
    by_depth = (fx * (tx - a * tz) * inverse, fy * (ty - c * tz) * inverse)
    # The projection grows with the focal length, and the slope of the ray shrinks with it.
    slope = -(rotation[..., :2] @ flat[:, :, None])
    by_focal = (
        fx * (a + (slope[..., 0, :] - a * slope[..., 2, :]) * inverse),
        fy * (c + (slope[..., 1, :] - c * slope[..., 2, :]) * inverse),
    )
    return Projection(rotation, translation, point, in_front, by_pose, by_depth, by_focal)


def projected(
    bundle: Bundle,
    lens: Lenses,
    points: Float[Tensor, "n 2"],
    inverse_depth: Float[Tensor, "b v n"],
    neighbours: Int[Tensor, "b v k"],
) -> Float[Tensor, "b v k n 2"]:
    """Image coordinates in the neighbours of points with other inverse depths than those of ``bundle``."""
    return _seen(bundle, lens, points, inverse_depth, neighbours)[1].point


class _InNeighbours(NamedTuple):
    """Points in the neighbours: relative poses, focal lengths, slopes x/z and y/z, 1/z, places."""

    rotation: Tensor
    translation: Tensor
    focal: tuple[Tensor, Tensor]
    slopes: tuple[Tensor, Tensor]
    inverse: Tensor
    point: Tensor
    in_front: Tensor


def _seen(
    bundle: Bundle, lens: Lenses, points: Tensor, inverse_depth: Tensor, neighbours: Tensor
) -> tuple[Float[Tensor, "b v 2 n"], _InNeighbours]:
    """Slopes of the rays in their own view, and the points in the neighbours."""
    b, v, k = neighbours.shape
    focal = bundle.log_focal.exp()[:, None, None] * lens.focal
    there = select_views(focal, neighbours.flatten(1)).reshape(b, v, k, 2, 1)
    centre = select_views(lens.centre, neighbours.flatten(1)).reshape(b, v, k, 2, 1)
    flat = (points.mT - lens.centre[..., None]) / focal[..., None]
    ray = torch.cat([flat, torch.ones_like(flat[:, :, :1])], dim=2)
    rotation, translation = relative_poses(bundle, neighbours)
    y = rotation @ ray[:, :, None] + translation[..., None] * inverse_depth[:, :, None, None]
    inverse = 1 / y[..., 2, :].clamp(min=NEAREST_DEPTH)
    a, c = y[..., 0, :] * inverse, y[..., 1, :] * inverse
    fx, fy = there[..., 0, :], there[..., 1, :]
    point = torch.stack([fx * a + centre[..., 0, :], fy * c + centre[..., 1, :]], dim=-1)
    in_front = (y[..., 2, :] > NEAREST_DEPTH).to(a.dtype)
    return flat, _InNeighbours(rotation, translation, (fx, fy), (a, c), inverse, point, in_front)


def adjoint(
    rotation: Float[Tensor, "*batch 3 3"], translation: Float[Tensor, "*batch 3"]
) -> Float[Tensor, "*batch 6 6"]:
    """Adjoint of a rigid motion: it maps twists (rotation, translation) before the motion to twists after it."""
    upper = torch.cat([rotation, torch.zeros_like(rotation)], dim=-1)
    lower = torch.cat([hat(translation) @ rotation, rotation], dim=-1)
    return torch.cat([upper, lower], dim=-2)
