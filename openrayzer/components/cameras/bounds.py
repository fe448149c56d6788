"""Soft bounds on the focal lengths and translations of camera heads, with gradients above 0 everywhere."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from openrayzer.interfaces import InputError

LINEAR_SHARE = 0.9
"""Up to this share of the distance from the initial value to a bound, values do not change."""


@dataclass(frozen=True, kw_only=True)
class CameraBounds:
    """Soft bounds on cameras; None sets no bound.

    There is no bound on rotations; ``docs/training.md`` gives the reasons.

    Args:
        initial_focal: focal length at the start of training. The bounds on focal lengths have the same unit.
        min_focal: lower bound on focal lengths, below ``initial_focal``.
        max_focal: upper bound on focal lengths, above ``initial_focal``.
        max_translation: upper bound on the distance of a camera from the origin. For heads with a canonical view,
            this view is the origin.

    Raises:
        InputError: a bound is not finite, or lies on the wrong side of the initial value.
    """

    initial_focal: float
    min_focal: float | None = None
    max_focal: float | None = None
    max_translation: float | None = None

    def __post_init__(self) -> None:
        start = self.initial_focal
        if not (math.isfinite(start) and start > 0):
            raise InputError(f"initial_focal must be above 0, got {start}")
        if self.min_focal is not None and not 0 < self.min_focal < start:
            raise InputError(f"min_focal {self.min_focal} must be above 0 and below the initial focal length {start:g}")
        if self.max_focal is not None and not start < self.max_focal < math.inf:
            raise InputError(f"max_focal {self.max_focal} must be finite and above the initial focal length {start:g}")
        if self.max_translation is not None and not 0 < self.max_translation < math.inf:
            raise InputError(f"max_translation must be finite and above 0, got {self.max_translation}")

    def focal(self, focal: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
        """Focal lengths within the bounds, in the unit of ``initial_focal``."""
        for bound in (self.min_focal, self.max_focal):
            if bound is not None:
                focal = soft_clamp(focal, start=self.initial_focal, bound=bound)
        return focal

    def translation(self, translation: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3"]:
        """Camera centres within the bound; the bound changes their length and keeps their direction."""
        if self.max_translation is None:
            return translation
        length = torch.linalg.vector_norm(translation, dim=-1, keepdim=True)
        inside = length <= LINEAR_SHARE * self.max_translation
        length = torch.where(inside, 1.0, length)  # has no effect inside, and keeps 0 / 0 out of the gradient
        return translation * torch.where(
            inside, 1.0, soft_clamp(length, start=0.0, bound=self.max_translation) / length
        )


def soft_clamp(value: Float[Tensor, "*batch"], *, start: float, bound: float) -> Float[Tensor, "*batch"]:
    """Soft clamp: the identity from ``start`` to a knee, then a curve that approaches ``bound``.

    With the knee k = start + 0.9 (bound - start), r = bound - k and u = (value - k) / r, the result for u > 0 is
    k + r u / (1 + u). The function and its slope are continuous, and its range includes all values before the bound.
    The slope (1 + u)^-2 falls slowly, so in float32 it stays above 0 where the slope of tanh is already 0. ``bound``
    may be above or below ``start``.

    Source: the softsign u / (1 + |u|) of Bergstra et al. 2009, "Quadratic polynomials learn better image features",
    applied beyond the knee.
    """
    knee = start + LINEAR_SHARE * (bound - start)
    rest = bound - knee
    excess = ((value - knee) / rest).clamp(min=0)
    return torch.where(excess > 0, bound - rest / (1 + excess), value)
