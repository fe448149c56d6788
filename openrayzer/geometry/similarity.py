"""The similarity that lays cameras estimated in one frame onto cameras in another: rotation, scale and shift.

Everything is computed without autocast in float32 (in float64 if that is given) and returned so.
"""

from dataclasses import dataclass

import torch
from einops import rearrange, reduce
from jaxtyping import Float
from torch import Tensor

from openrayzer.geometry.poses import SMALLEST_EXTENT
from openrayzer.geometry.precision import full_precision, no_autocast, product, transform
from openrayzer.geometry.rotations import pose_from, rotation_from_9d
from openrayzer.types import Cameras

SMALLEST_SCALE = 1e-3
"""A scale is no smaller than this share of the ratio of the two spreads; least squares alone may ask for 0 or less."""


@dataclass(frozen=True)
class Similarity:
    """x -> scale * rotation x + translation, one per batch element.

    Attributes:
        rotation: proper, never a reflection.
        translation: the shift, after rotation and scale.
        scale: above 0.
    """

    rotation: Float[Tensor, "b 3 3"]
    translation: Float[Tensor, "b 3"]
    scale: Float[Tensor, " b"]

    def poses(self, c2w: Float[Tensor, "b v 4 4"]) -> Float[Tensor, "b v 4 4"]:
        """Where poses come to stand: axes are turned, centres turned, scaled and shifted."""
        with no_autocast(c2w):
            c2w = full_precision(c2w)
            rotation, centre = self.rotation[:, None], c2w[..., :3, 3]
            moved = self.scale[:, None, None] * transform(rotation, centre) + self.translation[:, None]
            return pose_from(product(rotation, c2w[..., :3, :3]), moved)

    def cameras(self, cameras: Cameras) -> Cameras:
        """Where cameras come to stand; their intrinsics stay."""
        return Cameras(self.poses(cameras.c2w), cameras.intrinsics)


def similarity_between(moving: Float[Tensor, "b v 4 4"], fixed: Float[Tensor, "b v 4 4"]) -> Similarity:
    """The similarity that lays the poses ``moving`` onto ``fixed``, view by view.

    The rotation is the chordal mean of the views' relative rotations, so it is well posed for any number of views, also
    where the centres lie on a line, which leaves the usual fit to centres alone free to turn about that line. Given the
    rotation, scale and shift are the least squares fit of the centres.

    Where one of the two sets of centres has no extent, as with one view, the scale is 1 and the centres' means meet.
    Where the centres contradict the rotation, so that the best scale is 0 or less, it is a thousandth of the ratio of
    their spreads. Where the relative rotations cancel, the rotation is one of the equally good ones.

    Args:
        moving: camera to world, at least one view.
        fixed: the same views in the other frame.

    Source: Hartley et al., Rotation Averaging, 2013 (the chordal L2 mean); Umeyama, Least-squares
    estimation of transformation parameters between two point patterns, 1991, equations 41 and 42 for a given rotation.
    """
    with no_autocast(fixed):
        moving, fixed = full_precision(moving), full_precision(fixed)
        relative = product(fixed[..., :3, :3], moving[..., :3, :3].mT)
        total = rearrange(relative.sum(dim=1), "b row column -> b (row column)")
        rotation = rotation_from_9d(total, normalise_rows=False)
        turned = transform(rotation[:, None], moving[..., :3, 3])
        scale = _scale(turned, fixed[..., :3, 3])
        shift = fixed[..., :3, 3].mean(dim=1) - scale[:, None] * turned.mean(dim=1)
        return Similarity(rotation, shift, scale)


def _scale(moving: Float[Tensor, "b v 3"], fixed: Float[Tensor, "b v 3"]) -> Float[Tensor, " b"]:
    """The positive s that minimises |s (moving - its mean) - (fixed - its mean)|^2."""
    (moving_offset, moving_spread), (fixed_offset, fixed_spread) = _spread(moving), _spread(fixed)
    apart = (moving_spread > 0) & (fixed_spread > 0)
    agreement = reduce(moving_offset * fixed_offset, "b v xyz -> b", "sum")
    spread = torch.where(apart, moving_spread, 1.0)
    least = SMALLEST_SCALE * fixed_spread / spread
    return torch.where(apart, torch.maximum(agreement / spread.square(), least), 1.0)


def _spread(centres: Float[Tensor, "b v 3"]) -> tuple[Float[Tensor, "b v 3"], Float[Tensor, " b"]]:
    """Offsets from the mean and their common length; exactly 0 where the centres differ by rounding only."""
    offset = centres - centres.mean(dim=1, keepdim=True)
    extent, reach = (reduce(values.abs(), "b v xyz -> b", "max") for values in (offset, centres))
    length = reduce(offset.square(), "b v xyz -> b", "sum").sqrt()
    return offset, torch.where(extent > SMALLEST_EXTENT * reach, length, 0.0)
