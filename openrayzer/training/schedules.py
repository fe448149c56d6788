"""Schedules of the learning rate, as a factor of its peak.

The factor in the warm-up is ``(step + 1) / warmup_steps``, so the first step moves the weights and the last step of the
warm-up has the peak learning rate.
"""

import math

from openrayzer.interfaces import SCHEDULES, InputError, Schedule


@SCHEDULES.register("constant")
class Constant(Schedule):
    """The peak learning rate throughout, after an optional linear warm-up.

    Args:
        warmup_steps: length of the linear rise.
    """

    def __init__(self, *, warmup_steps: int = 0) -> None:
        super().__init__()
        self.warmup_steps = _at_least_0("warmup_steps", warmup_steps)

    def factor(self, step: int, steps: int) -> float:
        """The factor at ``step``, counted from 0; 1 after the warm-up."""
        return _warmup(step, self.warmup_steps)


@SCHEDULES.register("warmup_cosine")
class WarmupCosine(Schedule):
    """A linear rise, then half a cosine down to a fraction of the peak.

    Args:
        warmup_steps: length of the linear rise.
        final_fraction: the factor at the end of the run.

    Source: Loshchilov and Hutter, "SGDR", equation 5, without restarts.
    """

    def __init__(self, *, warmup_steps: int, final_fraction: float = 0.0) -> None:
        super().__init__()
        self.warmup_steps = _at_least_0("warmup_steps", warmup_steps)
        self.final_fraction = _fraction("final_fraction", final_fraction)

    def factor(self, step: int, steps: int) -> float:
        """The factor at ``step``, counted from 0, of a run of ``steps``."""
        if step < self.warmup_steps:
            return _warmup(step, self.warmup_steps)
        progress = min(1.0, (step - self.warmup_steps) / max(1, steps - self.warmup_steps))
        return self.final_fraction + (1 - self.final_fraction) * 0.5 * (1 + math.cos(math.pi * progress))


@SCHEDULES.register("wsd")
class WarmupStableDecay(Schedule):
    """A linear rise, a plateau, and a decay over the last steps. A longer run only lengthens the plateau.

    Args:
        warmup_steps: length of the linear rise.
        decay_steps: length of the decay at the end of the run.
        final_fraction: the factor at the end of the run.
        square_root: decay as 1 - sqrt(progress), which is fast at first; False decays linearly.

    Source: Haegele et al., "Scaling Laws and Compute-Optimal Training Beyond Fixed Training Durations", section 3.
    """

    def __init__(
        self, *, warmup_steps: int, decay_steps: int, final_fraction: float = 0.0, square_root: bool = False
    ) -> None:
        super().__init__()
        self.warmup_steps = _at_least_0("warmup_steps", warmup_steps)
        self.decay_steps = _at_least_0("decay_steps", decay_steps)
        self.final_fraction = _fraction("final_fraction", final_fraction)
        self.square_root = square_root

    def factor(self, step: int, steps: int) -> float:
        """The factor at ``step``, counted from 0, of a run of ``steps``."""
        begin = max(self.warmup_steps, steps - self.decay_steps)
        if step < begin:
            return _warmup(step, self.warmup_steps)
        progress = min(1.0, (step - begin) / max(1, steps - begin))
        left = 1 - math.sqrt(progress) if self.square_root else 1 - progress
        return self.final_fraction + (1 - self.final_fraction) * left


def _warmup(step: int, warmup_steps: int) -> float:
    return min(1.0, (step + 1) / max(1, warmup_steps))


def _at_least_0(name: str, value: int) -> int:
    if value < 0:
        raise InputError(f"{name} must be 0 or more, got {value}")
    return value


def _fraction(name: str, value: float) -> float:
    if not 0 <= value <= 1:
        raise InputError(f"{name} must be between 0 and 1, got {value}")
    return value
