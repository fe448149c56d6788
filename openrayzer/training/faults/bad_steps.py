"""Bad steps: losses that jump, what is said of a step that was skipped, and what is kept of it to look at.

A dump is ``bad_steps/step_00000012/`` of the run folder, complete or absent: every process's micro-batches and random
generators, the weights, the experiment, and what was measured. ``tools/replay_step.py`` makes the step again from it.
"""

import json
import logging
import math
import shutil
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

import torch
from torch import Tensor

from openrayzer.interfaces import InputError
from openrayzer.training.engine import Engine
from openrayzer.training.logs.loggers import finite
from openrayzer.types import Cameras, Views
from openrayzer.weights.checkpoints.manifest import rank_file
from openrayzer.weights.run_layout import BAD_STEPS, EXPERIMENT
from openrayzer.weights.weight_folder import WEIGHTS, write_weights

LOG = logging.getLogger(__name__)
T = TypeVar("T")
FACTS = "step.json"
MOST = 4
"""Dumps in a run folder; each holds the weights, and runs that are started again by a script may stop many times."""
WINDOW = 32
"""Steps whose losses say what is usual."""


class LossWatch:
    """Notices a loss far above what was usual. Fed with the same numbers, all processes decide alike.

    Every finite loss counts for what is usual from the next step on, a jump too: after half a window of jumps they are
    the new usual, as when a term of the loss begins.

    Args:
        factor: a loss above this many times the median of the last ``WINDOW`` ones is a jump; 0 never is.
        grace_steps: losses that must have been seen before, up to ``WINDOW`` of them.
    """

    def __init__(self, *, factor: float, grace_steps: int) -> None:
        self.factor, self._needed = factor, max(1, min(grace_steps, WINDOW))
        self._losses: deque[float] = deque(maxlen=WINDOW)

    def jumps(self, loss: float) -> bool:
        """Whether this loss is far above what was usual so far; remembers it."""
        known = len(self._losses) >= self._needed
        jump = bool(self.factor) and known and loss > self.factor * median(self._losses)
        if math.isfinite(loss):
            self._losses.append(loss)
        return jump

    def objection(self, loss: float) -> str:
        """Why a step with this loss must be skipped; "" if it need not be. Remembers the loss."""
        if not self.jumps(loss):
            return ""
        return f"loss {loss:.3g} above {self.factor:g} x the median of the steps before"

    def state(self) -> list[float]:
        """The losses that are remembered."""
        return list(self._losses)

    def load(self, losses: Sequence[float]) -> None:
        """Go on from ``state``."""
        self._losses = deque(losses, maxlen=WINDOW)


@dataclass(frozen=True)
class StepRecord:
    """What one process did in one optimizer step.

    Attributes:
        step: optimizer steps that were made before it.
        micro_batches: in order, on the device.
        losses: of each micro-batch, on the device.
        random: the generators before the step; empty where no dump is wanted.
    """

    step: int
    micro_batches: tuple[Views, ...]
    losses: tuple[Tensor, ...]
    random: Mapping[str, Any]


def report(engine: Engine, made: StepRecord) -> None:
    """Log a skipped step with the scenes of all its micro-batches on all processes, which must all call this."""
    everywhere = engine.process.gather([scene for views in made.micro_batches for scene in views.scenes])
    if engine.process.is_first:
        scenes = ", ".join(scene for one in everywhere for scene in one)
        LOG.warning("step %d skipped: %s; its scenes: %s", engine.steps, engine.why_skipped, scenes)


def dump(engine: Engine, made: StepRecord, *, run_folder: Path, record: Mapping[str, Any]) -> None:
    """Write what is needed to make a skipped step again; all processes must call this. What fails is a warning.

    A step that was kept before stays as it is, and no more than ``MOST`` are kept.

    Args:
        engine: after the step, so that its weights are still those of the step.
        trace: of this process.
        run_folder: gets ``bad_steps/step_...``, by the number of the step counted from 1.
        record: what experiment.json holds.
    """
    process, final = engine.process, run_folder / BAD_STEPS / f"step_{made.step + 1:08d}"
    unfinished = final.with_name(f"{final.name}.tmp")
    losses = [float(loss) for loss in made.losses]
    all_losses = [loss for one in process.gather(losses) for loss in one]
    facts = {
        "step": made.step,
        "world_size": process.world_size,
        "reason": engine.why_skipped,
        "loss": sum(all_losses) / len(all_losses),
        "grad_norm": float(engine.last_norm),
    }

    def write_own() -> None:
        micro_batches = [_plain(views.to("cpu")) for views in made.micro_batches]
        content = {"micro_batches": micro_batches, "random": dict(made.random), "losses": losses}
        torch.save(content, unfinished / rank_file(process.rank))

    def finish() -> None:
        (unfinished / FACTS).write_text(json.dumps(finite(facts), indent=1), encoding="utf-8")
        (unfinished / EXPERIMENT).write_text(json.dumps(record, indent=2, default=str), encoding="utf-8")
        unfinished.rename(final)
        LOG.warning("kept as %s; look at it by: python tools/replay_step.py %s", final, final)

    try:
        process.by_first(_telling(lambda: _create_folder(unfinished, final)))
        process.by_all(_telling(write_own))
        with engine.evaluating() as model:
            process.by_first(_telling(lambda: write_weights(model, unfinished / WEIGHTS)))
        process.by_first(_telling(finish))
    except InputError as error:
        if process.is_first:
            shutil.rmtree(unfinished, ignore_errors=True)
            LOG.warning("%s: cannot be written (%s); training goes on without it", final, error)


def _telling(function: Callable[[], T]) -> Callable[[], T]:
    """``function``, with an InputError for what a disk makes it raise: of that all processes hear."""

    def telling() -> T:
        try:
            return function()
        except (OSError, RuntimeError, ValueError) as error:
            raise InputError(str(error)) from error

    return telling


def _create_folder(unfinished: Path, final: Path) -> None:
    kept = [path.name for path in final.parent.glob("step_*") if path.suffix != unfinished.suffix]
    if final.name in kept:
        raise InputError("this step was kept before; remove it to have it anew")
    if len(kept) >= MOST:
        raise InputError(f"{len(kept)} steps are kept there already; remove what you have looked at")
    for stale in final.parent.glob(f"*{unfinished.suffix}"):
        shutil.rmtree(stale, ignore_errors=True)
    unfinished.mkdir(parents=True)


def read_views(plain: Mapping[str, Any]) -> Views:
    """A micro-batch of a dump."""
    cameras = None if plain["c2w"] is None else Cameras(plain["c2w"], plain["intrinsics"])
    tensors = {name: plain[name] for name in ("images", "frames", "context", "target", "clean")}
    return Views(scenes=tuple(plain["scenes"]), cameras=cameras, **tensors)


def _plain(views: Views) -> dict[str, Any]:
    """Tensors and texts only, so that they load without running code."""
    tensors = {name: getattr(views, name) for name in ("images", "frames", "context", "target", "clean")}
    c2w, intrinsics = (None, None) if views.cameras is None else (views.cameras.c2w, views.cameras.intrinsics)
    return {**tensors, "scenes": list(views.scenes), "c2w": c2w, "intrinsics": intrinsics}
