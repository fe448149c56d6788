"""Bounds on what a camera head predicts. They bend instead of cutting: behind one a gradient still leads back."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

EXACT = 0.9
"""Share of the way from where training starts to a bound in which nothing is changed."""


@dataclass(frozen=True, kw_only=True)
class CameraBounds:
    """What no camera exceeds; None sets no bound.

    Rotations have none: they cannot run away, and no continuous map keeps them all within an angle and their order
    (``docs/training.md``).

    Args:
        initial_focal: focal length at the start of training; every bound is in its unit.
        min_focal: focal lengths stay above this.
        max_focal: focal lengths stay below this.
        max_translation: cameras stay closer than this to the origin, which is the canonical view where there is one.

    Raises:
        ValueError: a bound leaves no room around where training starts.
    """

    initial_focal: float
    min_focal: float | None = None
    max_focal: float | None = None
    max_translation: float | None = None

    def __post_init__(self) -> None:
        start = self.initial_focal
        if not (math.isfinite(start) and start > 0):
            raise ValueError(f"initial_focal must be above 0, got {start}")
        if self.min_focal is not None and not 0 < self.min_focal < start:
            raise ValueError(f"min_focal {self.min_focal} must be above 0 and below the initial focal length {start:g}")
        if self.max_focal is not None and not start < self.max_focal < math.inf:
            raise ValueError(f"max_focal {self.max_focal} must be finite and above the initial focal length {start:g}")
        if self.max_translation is not None and not 0 < self.max_translation < math.inf:
            raise ValueError(f"max_translation must be finite and above 0, got {self.max_translation}")

    def focal(self, focal: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
        """Focal lengths within the bounds."""
        for bound in (self.min_focal, self.max_focal):
            if bound is not None:
                focal = bend(focal, start=self.initial_focal, bound=bound)
        return focal

    def translation(self, translation: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3"]:
        """Camera centres within the bound, each in its direction."""
        if self.max_translation is None:
            return translation
        length = torch.linalg.vector_norm(translation, dim=-1, keepdim=True)
        inside = length <= EXACT * self.max_translation
        length = torch.where(inside, 1.0, length)  # of no effect there, and keeps 0 / 0 out of the gradient
        return translation * torch.where(inside, 1.0, bend(length, start=0.0, bound=self.max_translation) / length)


def bend(value: Float[Tensor, "*batch"], *, start: float, bound: float) -> Float[Tensor, "*batch"]:
    """``value`` up to nine tenths of the way from ``start`` to ``bound``; from there on ever slower, up to ``bound``.

    With k = start + 0.9 (bound - start), r = bound - k and u = (value - k) / r, the result is k + r u / (1 + u) where
    u > 0. It and its slope are continuous, and nothing before the bound is out of reach. The slope (1 + u)^-2 falls so
    slowly that float32 keeps it above 0 where that of tanh has long become 0. ``bound`` may lie on either side.

    Source: the softsign u / (1 + |u|) of Bergstra et al. 2009, "Quadratic polynomials learn better image features",
    for what exceeds k.
    """
    knee = start + EXACT * (bound - start)
    room = bound - knee
    excess = ((value - knee) / room).clamp(min=0)
    return torch.where(excess > 0, bound - room / (1 + excess), value)
