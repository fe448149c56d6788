"""Similarity transform that aligns cameras in one frame with the same cameras in another frame.

Functions compute and return float32, or float64 if the input is float64, without autocast.
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
"""Lower limit of the scale, as a share of the ratio of the spreads; without it, least squares may give 0 or less."""


@dataclass(frozen=True)
class Similarity:
    """x -> scale * rotation x + translation, one for each batch element.

    Attributes:
        rotation: proper rotation, without reflection.
        translation: translation after rotation and scale.
        scale: above 0.
    """

    rotation: Float[Tensor, "b 3 3"]
    translation: Float[Tensor, "b 3"]
    scale: Float[Tensor, " b"]

    def poses(self, c2w: Float[Tensor, "b v 4 4"]) -> Float[Tensor, "b v 4 4"]:
        """Transformed poses: the rotation applies to their axes, the whole similarity to their centres."""
        with no_autocast(c2w):
            c2w = full_precision(c2w)
            rotation, centre = self.rotation[:, None], c2w[..., :3, 3]
            moved = self.scale[:, None, None] * transform(rotation, centre) + self.translation[:, None]
            return pose_from(product(rotation, c2w[..., :3, :3]), moved)

    def cameras(self, cameras: Cameras) -> Cameras:
        """Cameras with transformed poses and the same intrinsics."""
        return Cameras(self.poses(cameras.c2w), cameras.intrinsics)


def similarity_between(moving: Float[Tensor, "b v 4 4"], fixed: Float[Tensor, "b v 4 4"]) -> Similarity:
    """The similarity that maps the poses ``moving`` to ``fixed``, view by view, as well as possible.

    The rotation is the chordal mean of the relative rotations of the views. It is unique even with one view or with
    centres on a line, where a fit to the centres alone could rotate about the line. Scale and translation are the least
    squares fit of the centres for this rotation.

    Special cases:

    - If one set of centres has no extent, as with one view, the scale is 1 and the means of the centres coincide.
    - If the centres contradict the rotation, the best scale is 0 or below; then it is ``SMALLEST_SCALE`` times the
      ratio of the spreads.
    - If the relative rotations cancel, several rotations are equally good, and the result has one of them.

    Args:
        moving: camera to world, at least one view.
        fixed: the same views in the other frame.

    Source: Hartley et al. 2013, "Rotation Averaging" (the chordal L2 mean); Umeyama 1991, "Least-squares estimation of
    transformation parameters between two point patterns", equations 41 and 42, for a given rotation.
    """
    with no_autocast(fixed):
        moving, fixed = full_precision(moving), full_precision(fixed)
        rotation, rotated = _rotated(moving, fixed)
        scale = _scale(rotated, fixed[..., :3, 3])
        translation = fixed[..., :3, 3].mean(dim=1) - scale[:, None] * rotated.mean(dim=1)
        return Similarity(rotation, translation, scale)


def motion_between(moving: Float[Tensor, "b v 4 4"], fixed: Float[Tensor, "b v 4 4"]) -> Similarity:
    """The similarity of scale 1 that maps the poses ``moving`` to ``fixed``, as ``similarity_between`` does.

    Args:
        moving: camera to world, at least one view.
        fixed: the same views in the other frame.
    """
    with no_autocast(fixed):
        moving, fixed = full_precision(moving), full_precision(fixed)
        rotation, rotated = _rotated(moving, fixed)
        translation = fixed[..., :3, 3].mean(dim=1) - rotated.mean(dim=1)
        return Similarity(rotation, translation, torch.ones_like(translation[:, 0]))


def _rotated(moving: Tensor, fixed: Tensor) -> tuple[Float[Tensor, "b 3 3"], Float[Tensor, "b v 3"]]:
    """The chordal mean of the rotations from ``moving`` to ``fixed``, and the centres of ``moving`` after it."""
    relative = product(fixed[..., :3, :3], moving[..., :3, :3].mT)
    total = rearrange(relative.sum(dim=1), "b row column -> b (row column)")
    rotation = rotation_from_9d(total, normalise_rows=False)
    return rotation, transform(rotation[:, None], moving[..., :3, 3])


def _scale(moving: Float[Tensor, "b v 3"], fixed: Float[Tensor, "b v 3"]) -> Float[Tensor, " b"]:
    """The positive s that minimises |s (moving - its mean) - (fixed - its mean)|^2."""
    (moving_offset, moving_spread), (fixed_offset, fixed_spread) = _spread(moving), _spread(fixed)
    apart = (moving_spread > 0) & (fixed_spread > 0)
    agreement = reduce(moving_offset * fixed_offset, "b v xyz -> b", "sum")
    spread = torch.where(apart, moving_spread, 1.0)
    least = SMALLEST_SCALE * fixed_spread / spread
    return torch.where(apart, torch.maximum(agreement / spread.square(), least), 1.0)


def _spread(centres: Float[Tensor, "b v 3"]) -> tuple[Float[Tensor, "b v 3"], Float[Tensor, " b"]]:
    """Offsets from the mean, and the root of their summed squares; exactly 0 if the centres differ only by rounding."""
    offset = centres - centres.mean(dim=1, keepdim=True)
    extent, reach = (reduce(values.abs(), "b v xyz -> b", "max") for values in (offset, centres))
    length = reduce(offset.square(), "b v xyz -> b", "sum").sqrt()
    return offset, torch.where(extent > SMALLEST_EXTENT * reach, length, 0.0)
