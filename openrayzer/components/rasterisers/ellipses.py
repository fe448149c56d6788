"""Projection of 3D Gaussians to ellipses in pixels, with gradients to Gaussians, poses and intrinsics."""

from dataclasses import dataclass
from typing import Literal

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor

from openrayzer.components.rasterisers.exact_product import exact_product
from openrayzer.components.rasterisers.harmonics import colours_towards
from openrayzer.geometry.poses import invert
from openrayzer.geometry.precision import full_precision, no_autocast
from openrayzer.geometry.rotations import rotation_from_quaternion
from openrayzer.interfaces import Gaussians
from openrayzer.interfaces.gaussians import TRANSPARENT
from openrayzer.types import Cameras, map_tensors, tensors_of

Extent = Literal["box", "three_sigma"]
"""The pixels that a Gaussian may change.

"box" is the smallest box with all pixels to which it contributes at least ``FAINTEST``, as in gsplat 1.5. "three_sigma"
is gsplat 1.4.0's rule: the tiles of 16 pixels that a square with sides of 6 standard deviations of the longest axis
touches. It cuts strong, wide Gaussians at the borders of tiles, by up to 0.011 of their colour.
"""

FAINTEST = TRANSPARENT
"""A contribution below this share counts as 0."""

BLUR = 0.3
"""Variance in square pixels that every ellipse gains, so that none is narrower than a pixel."""

BEYOND = 0.15
"""The slope of a Gaussian's ray is limited to the image plus this share of its width and height on each side."""

SMALLEST_SPREAD = 0.1
"""Lower limit under the root of gsplat 1.4.0's radius."""

LARGEST = 1e8
"""Limit of slopes, and of half axes in pixels. Beyond it nothing changes in the image, and squares would overflow."""


@dataclass(frozen=True)
class Ellipses:
    """Gaussians as v cameras see them. Values of invisible Gaussians are finite but have no meaning.

    Attributes:
        centres: x and y in pixels.
        conics: entries (0, 0), (0, 1), (1, 1) of the inverse covariances in pixels.
        depths: z-depth in the camera.
        colours: red, green and blue, 0 or more.
        opacities: the Gaussians' opacities.
        reach: half width and half height in pixels of the exact box, see ``Extent``; 0 for invisible Gaussians.
        radii: half width and half height in pixels, integers, by the extent rule; 0 for invisible Gaussians.
        finite: whether scene and camera are finite.
        extent: the extent rule.
    """

    centres: Float[Tensor, "2 b v k"]
    conics: Float[Tensor, "3 b v k"]
    depths: Float[Tensor, "b v k"]
    colours: Float[Tensor, "3 b v k"]
    opacities: Float[Tensor, "b v k"]
    reach: Float[Tensor, "2 b v k"]
    radii: Float[Tensor, "2 b v k"]
    finite: Bool[Tensor, "b v"]
    extent: Extent


def project(
    gaussians: Gaussians, cameras: Cameras, image_size: tuple[int, int], *, near: float, extent: Extent
) -> Ellipses:
    """The ellipses of all Gaussians in all views.

    Args:
        gaussians: the scenes.
        cameras: v cameras for each scene.
        image_size: height and width in pixels.
        near: Gaussians with a smaller z-depth are invisible.
        extent: see ``Extent``.

    Raises:
        InputError: the harmonics have a wrong number of coefficients.

    Source: Zwicker et al. 2001, "EWA Splatting", with the limits and constants of gsplat.
    """
    with no_autocast(gaussians.means):
        gaussians, cameras = map_tensors((gaussians, cameras), full_precision)
        size = gaussians.means.new_empty(2, 1, 1, 1)
        size[1], size[0] = image_size  # a fill on the device, for which the host does not wait
        focal, principal = rearrange(cameras.intrinsics, "b v (two c) -> two c b v 1", two=2) * size
        w2c = rearrange(invert(cameras.c2w), "b v row column -> row column b v 1")
        rotation, translation = w2c[:3, :3], w2c[:3, 3]

        means = rearrange(gaussians.means, "b k c -> c b 1 k")
        x, y, depths = (rotation * means).sum(1) + translation
        drawn = (depths >= near) & (gaussians.opacities[:, None] >= FAINTEST)
        depths = torch.where(drawn, depths, 1.0)
        slopes = (torch.stack([x, y]) / depths).clamp(-LARGEST, LARGEST)
        centres = focal * slopes + principal

        low, high = (-principal - BEYOND * size) / focal, (size - principal + BEYOND * size) / focal
        axes = _half_axes(gaussians, rotation)
        axes = (focal / depths)[:, None] * (axes[:2] - slopes.clamp(low, high)[:, None] * axes[2])
        first, second = axes.clamp(-LARGEST, LARGEST)  # x and y of the half axes in pixels
        xx, xy, yy = (first * first).sum(0) + BLUR, (first * second).sum(0), (second * second).sum(0) + BLUR
        determinant = xx * yy - xy * xy
        with torch.no_grad():
            opacities = gaussians.opacities[:, None].expand_as(depths)
            reach = _reach(torch.stack([xx, yy]), opacities)
            radii = reach.ceil() if extent == "box" else _three_sigma(xx, yy, determinant)
            drawn = drawn & (determinant > 0) & ((centres + radii > 0) & (centres - radii < size)).all(0)
        conics = torch.stack([yy, -xy, xx]) / torch.where(drawn, determinant, 1.0)
        return Ellipses(
            centres=torch.where(drawn, centres, 0.0),
            conics=torch.where(drawn, conics, 0.0),
            depths=depths,
            colours=colours_towards(gaussians, cameras.c2w[..., :3, 3]),
            opacities=torch.where(drawn, gaussians.opacities[:, None], FAINTEST),
            reach=torch.where(drawn, reach, 0.0),
            radii=torch.where(drawn, radii, 0.0),
            finite=_finite(gaussians)[:, None] & _finite(cameras, from_axis=2),
            extent=extent,
        )


def _half_axes(gaussians: Gaussians, rotation: Float[Tensor, "3 3 b v 1"]) -> Float[Tensor, "3 3 b v k"]:
    """The three half axes of each Gaussian, the columns of Q diag(s), in camera coordinates."""
    axes = rotation_from_quaternion(gaussians.rotations) * gaussians.scales[..., None, :]
    seen = exact_product(
        rearrange(rotation, "row c b v 1 -> b (v row) c"), rearrange(axes, "b k c principal -> b c (principal k)")
    )
    return rearrange(seen, "b (v row) (principal k) -> row principal b v k", row=3, principal=3)


def _reach(variances: Float[Tensor, "2 b v k"], opacities: Float[Tensor, "b v k"]) -> Float[Tensor, "2 b v k"]:
    """Half sides of the box outside of which opacity * exp(-x^2 / 2) is below ``FAINTEST``."""
    return (2 * (opacities.clamp(min=FAINTEST) / FAINTEST).log() * variances).sqrt()


def _three_sigma(
    xx: Float[Tensor, "b v k"], yy: Float[Tensor, "b v k"], determinant: Float[Tensor, "b v k"]
) -> Float[Tensor, "2 b v k"]:
    """gsplat 1.4.0's radius in pixels: three standard deviations of the longest axis, the same for both sides."""
    mean = (xx + yy) / 2
    longest = mean + (mean * mean - determinant).clamp(min=SMALLEST_SPREAD).sqrt()
    return (3 * longest.sqrt()).ceil().expand(2, *mean.shape)


def _finite(values: Gaussians | Cameras, *, from_axis: int = 1) -> Bool[Tensor, "..."]:
    """Whether all values of each scene, or of each view for ``from_axis=2``, are finite."""
    return torch.stack([tensor.isfinite().flatten(from_axis).all(-1) for tensor in tensors_of(values)]).all(0)
