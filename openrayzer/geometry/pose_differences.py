"""Differences of two sets of cameras that do not depend on world frame and unit of length."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from openrayzer.geometry.precision import full_precision, no_autocast, product, transform

_TINY = 1e-4
"""Distances round off below it, so that their gradients are finite."""
_SHORT = 0.1
"""A set of cameras with shorter baselines, in root mean squares of the wanted ones, counts as a point. This bounds the
gradients of cameras that all start at one place."""
_LEAST = 0.01
"""Wanted cameras with shorter baselines, in their unit, count as a point. A solver without support gives them."""


class PoseDifferences(NamedTuple):
    """Means over all ordered pairs of views of each scene, with gradients.

    Attributes:
        rotation: chordal distance between the relative rotations, sqrt(8) sin(angle / 2).
        translation: distance between the relative translations, in root mean square baselines of each set.
        direction: 1 - cosine of the angle between the relative translations; short baselines count less.
    """

    rotation: Float[Tensor, " b"]
    translation: Float[Tensor, " b"]
    direction: Float[Tensor, " b"]

    def total(self) -> Float[Tensor, ""]:
        """The loss of a student: a weighted sum, averaged over scenes."""
        return (3 * self.rotation + 0.5 * self.translation + 0.3 * self.direction).mean()


def pose_differences(c2w: Float[Tensor, "b v 4 4"], wanted: Float[Tensor, "b v 4 4"]) -> PoseDifferences:
    """Compare the relative poses of all pairs of views. Fewer than two views give zeros.

    Args:
        c2w: poses, camera to world.
        wanted: the poses with which to compare them.
    """
    with no_autocast(c2w):
        (rotation, moved), (true_rotation, true_moved) = _relative(c2w), _relative(wanted.to(c2w))
        turned = (rotation - true_rotation).square().sum((-1, -2)).add(_TINY**2).sqrt() - _TINY
        true_unit = true_moved.square().sum(-1).mean(1).add(_LEAST**2).sqrt()[:, None]
        short = (_SHORT * true_unit).square()
        unit = (moved.square().sum(-1).mean(1, keepdim=True) + short).sqrt()
        missed = moved / unit[..., None] - true_moved / true_unit[..., None]
        missed = missed.square().sum(-1).add(_TINY**2).sqrt() - _TINY
        length, true_length = ((value.square().sum(-1) + short).sqrt() for value in (moved, true_moved))
        turn = (true_length / true_unit).clamp(max=1) * (1 - (moved * true_moved).sum(-1) / (length * true_length))
        return PoseDifferences(*(value.sum(1) / max(value.shape[1], 1) for value in (turned, missed, turn)))


def _relative(c2w: Float[Tensor, "b v 4 4"]) -> tuple[Float[Tensor, "b pairs 3 3"], Float[Tensor, "b pairs 3"]]:
    """Rotation and translation from the first to the second camera of every pair of different views."""
    c2w = full_precision(c2w)
    rotation, centre = c2w[..., :3, :3], c2w[..., :3, 3]
    views = torch.arange(c2w.shape[1], device=c2w.device)[:, None]
    others = views.mT[:, :-1] + (views.mT[:, :-1] >= views).long()
    first, second = views.expand_as(others).flatten(), others.flatten()
    inverse = rotation[:, second].mT
    return product(inverse, rotation[:, first]), transform(inverse, centre[:, first] - centre[:, second])
