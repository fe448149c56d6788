"""The decision to skip an optimizer step, taken on the CPU with a single transfer from the device per step."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from openrayzer.machine.distributed import Process
from openrayzer.settings import BadSteps
from openrayzer.training.logs.meter import read

Objection = Callable[[float], str]
"""Takes the loss of a step (mean over micro-batches and processes). Returns a reason to skip the step, or ""."""


class SkipRule:
    """Replaces the gradient norm of a bad step by infinity, so that DeepSpeed skips the step.

    In a skipped step DeepSpeed clears the gradients and does not advance the schedule. DeepSpeed receives the norm on
    the CPU, so it does not wait for the device when it tests the norm and clips the gradients. Norm and loss are
    reduced over all processes, so all of them take the same decision.

    Args:
        zero: DeepSpeed's optimizer.
        stage: ZeRO stage 1, 2 or 3.
        rule: limits of norm and loss.
        clip_norm: norm to which gradients are clipped.
        process: this process.

    Attributes:
        norm: global gradient norm of the last step before clipping, on the CPU; not finite if the gradient was not.
        why: the reason why the last step was skipped, in a few words; empty if it was not skipped.
    """

    def __init__(self, zero: Any, *, stage: int, rule: BadSteps, clip_norm: float, process: Process) -> None:
        self.norm, self.why = torch.full((), math.nan), ""
        self._limit, self._rule, self._process = rule.norm_factor * clip_norm, rule, process
        self._loss: Tensor | None = None
        self._objection: Objection = no_objection
        self._in_grace = False
        self._install(zero, stage)

    def expect(self, *, step: int, loss: Tensor | None, objection: Objection) -> None:
        """Prepare for an optimizer step.

        Args:
            step: number of the step, counted from 0.
            loss: mean over the micro-batches of this process, on the device; None if the loss is not judged.
            objection: gives the reason to skip the step for its loss, the mean over all processes.
        """
        self.norm, self.why = torch.full((), math.nan), ""
        self._loss, self._objection, self._in_grace = loss, objection, step < self._rule.grace_steps

    def _install(self, zero: Any, stage: int) -> None:
        from deepspeed.runtime.zero import stage3, stage_1_and_2

        for module in (stage_1_and_2, stage3):
            setattr(module, MARKING, mark_not_finite)
        if stage == 3:
            norms_of_groups = zero._get_norm_groups
            zero._get_norm_groups = lambda: [self._judged(norms_of_groups())]
        else:
            norm_of_all = zero.scaled_global_norm
            zero.scaled_global_norm = lambda: self._judged([norm_of_all()])
            # DeepSpeed's own check waits for the device. The norm shows gradients that are not finite as well.
            zero.check_overflow = lambda partition_gradients=True: None

    def _judged(self, norms: Sequence[Tensor | float]) -> Tensor:
        """The norm of all groups together, on the CPU; infinite if the step must be skipped."""
        from deepspeed.runtime.utils import combine_grad_norm_groups

        given = [torch.as_tensor(norm) for norm in norms]
        *numbers, loss = read([*given, torch.zeros(()) if self._loss is None else self._loss])
        found = [number.to(norm.dtype) for number, norm in zip(numbers, given, strict=True)]
        self.norm = combine_grad_norm_groups(found)
        if self._loss is not None:
            self.why = self._objection(float(self._process.total(loss)) / self._process.world_size)
        self.why = self.why or self._what_is_wrong(float(self.norm))
        return torch.full_like(self.norm, math.inf) if self.why else self.norm

    def _what_is_wrong(self, norm: float) -> str:
        if not math.isfinite(norm):
            return "the gradient is not finite"
        if self._rule.norm_factor and not self._in_grace and norm > self._limit:
            factor = f"{self._rule.norm_factor:g} x clip_norm"
            return f"gradient norm {norm:.3g} above {self._limit:g}, {factor}"
        return ""


MARKING = "mask_nan_or_inf_with_val_inplace"
"""Name of the DeepSpeed function that ``mark_not_finite`` replaces."""


def mark_not_finite(norm: Tensor, device: object = None, val: float = -1.0) -> None:
    """Overwrite a norm that is not finite with ``val``. DeepSpeed's function waits for the device twice per norm."""
    norm.masked_fill_(~norm.isfinite(), val)


def no_objection(loss: float) -> str:
    """Accept every loss."""
    return ""
