"""Bad steps: losses that jump, log messages about skipped steps, and dumps of them.

A dump is a folder such as ``bad_steps/step_00000012/``, complete or absent. It holds the micro-batches and random
generators of every process, the weights, the experiment, loss and gradient norm. ``openrayzer replay`` repeats the
step from it.
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
FACTS, OBJECTIVE = "step.json", "objective.safetensors"
MOST = 4
"""Largest number of dumps in a run folder. Each holds the weights, and a script may restart a bad run many times."""
WINDOW = 32
"""Number of last losses whose median is the usual loss."""


class LossWatch:
    """Notices a loss far above the usual one. Given the same losses, all processes decide the same.

    The usual loss is the median of the last finite losses, including jumps. So after half a window of jumps the higher
    loss is the usual one, e.g. when a term of the loss begins.

    Args:
        factor: a loss above this many times the median of the last ``WINDOW`` losses is a jump; 0 turns this off.
        grace_steps: number of losses before the first jump can be noticed, at most ``WINDOW``.
    """

    def __init__(self, *, factor: float, grace_steps: int) -> None:
        self.factor, self._needed = factor, max(1, min(grace_steps, WINDOW))
        self._losses: deque[float] = deque(maxlen=WINDOW)

    def jumps(self, loss: float) -> bool:
        """Whether this loss is a jump. The loss is remembered."""
        known = len(self._losses) >= self._needed
        jump = bool(self.factor) and known and loss > self.factor * median(self._losses)
        if math.isfinite(loss):
            self._losses.append(loss)
        return jump

    def objection(self, loss: float) -> str:
        """The reason to skip a step with this loss; "" if there is none. The loss is remembered."""
        if not self.jumps(loss):
            return ""
        return f"loss {loss:.3g} above {self.factor:g} x the median of the steps before"

    def state(self) -> list[float]:
        """The remembered losses."""
        return list(self._losses)

    def load(self, losses: Sequence[float]) -> None:
        """Restore ``state``."""
        self._losses = deque(losses, maxlen=WINDOW)


@dataclass(frozen=True)
class StepRecord:
    """The input and the losses of one optimizer step on one process.

    Attributes:
        step: number of the step, counted from 0.
        micro_batches: in order, on the device.
        losses: one per micro-batch, on the device.
        random: state of the random generators before the step; empty if the settings write no dumps.
    """

    step: int
    micro_batches: tuple[Views, ...]
    losses: tuple[Tensor, ...]
    random: Mapping[str, Any]


def report(engine: Engine, made: StepRecord) -> None:
    """Log a skipped step with its scenes on all processes. All processes must call this."""
    process, scenes = engine.process, [scene for views in made.micro_batches for scene in views.scenes]
    everywhere = process.gather(scenes)[:: process.clip_size]
    if process.is_first:
        text = ", ".join(scene for one in everywhere for scene in one)
        LOG.warning("step %d skipped: %s; its scenes: %s", engine.steps, engine.why_skipped, text)


def dump(engine: Engine, made: StepRecord, *, run_folder: Path, record: Mapping[str, Any]) -> None:
    """Write a dump of a skipped step. All processes must call this. Errors are warnings.

    Processes that share their clips count as one process. ``replay`` computes with all views of a clip.

    An existing dump of the step stays as it is, and a run folder holds at most ``MOST`` dumps.

    Args:
        engine: the model after the skipped step, which has not changed its weights.
        made: the step on this process.
        run_folder: receives ``bad_steps/step_...``, with the number of the step counted from 1.
        record: content of experiment.json.
    """
    process, final = engine.process, run_folder / BAD_STEPS / f"step_{made.step + 1:08d}"
    unfinished = final.with_name(f"{final.name}.tmp")
    everywhere = torch.tensor(process.gather([float(loss) for loss in made.losses]), dtype=torch.float64)
    of_clips = everywhere.unflatten(0, (process.clip_numbers, process.clip_size)).mean(dim=1)
    facts = {
        "step": made.step,
        "world_size": process.clip_numbers,
        "reason": engine.why_skipped,
        "loss": float(of_clips.mean()),
        "grad_norm": float(engine.last_norm),
    }

    def write_own() -> None:
        if not process.leads_clip:
            return
        micro_batches = [_plain(views.to("cpu")) for views in made.micro_batches]
        losses = of_clips[process.clip_number].tolist()
        content = {"micro_batches": micro_batches, "random": dict(made.random), "losses": losses}
        torch.save(content, unfinished / rank_file(process.clip_number))

    def finish() -> None:
        (unfinished / FACTS).write_text(json.dumps(finite(facts), indent=1), encoding="utf-8")
        (unfinished / EXPERIMENT).write_text(json.dumps(record, indent=2, default=str), encoding="utf-8")
        unfinished.rename(final)
        LOG.warning("the step was written to %s; repeat it with: openrayzer replay %s", final, final)

    try:
        process.by_first(_explaining(lambda: _create_folder(unfinished, final)))
        process.by_all(_explaining(write_own))
        with engine.evaluating() as model:
            process.by_first(_explaining(lambda: write_weights(model, unfinished / WEIGHTS)))
            if engine.settings.objective is not None and engine.settings.objective.state_dict():
                weights = engine.settings.objective.state_dict()
                process.by_first(_explaining(lambda: write_weights(weights, unfinished / OBJECTIVE)))
        process.by_first(_explaining(finish))
    except InputError as error:
        if process.is_first:
            shutil.rmtree(unfinished, ignore_errors=True)
            LOG.warning("%s: cannot be written (%s); training goes on without it", final, error)


def _explaining(function: Callable[[], T]) -> Callable[[], T]:
    """``function`` with InputErrors in place of errors of the disk, because all processes receive InputErrors."""

    def explained() -> T:
        try:
            return function()
        except (OSError, RuntimeError, ValueError) as error:
            raise InputError(str(error)) from error

    return explained


def _create_folder(unfinished: Path, final: Path) -> None:
    kept = [path.name for path in final.parent.glob("step_*") if path.suffix != unfinished.suffix]
    if final.name in kept:
        raise InputError("a dump of this step exists; remove it to have a new one")
    if len(kept) >= MOST:
        raise InputError(f"the folder holds {len(kept)} dumps already; remove those that you have looked at")
    for stale in final.parent.glob(f"*{unfinished.suffix}"):
        shutil.rmtree(stale, ignore_errors=True)
    unfinished.mkdir(parents=True)


def read_views(plain: Mapping[str, Any]) -> Views:
    """The views of a micro-batch in a dump."""
    cameras = None if plain["c2w"] is None else Cameras(plain["c2w"], plain["intrinsics"])
    tensors = {name: plain[name] for name in ("images", "frames", "context", "target", "clean")}
    return Views(scenes=tuple(plain["scenes"]), cameras=cameras, **tensors)


def _plain(views: Views) -> dict[str, Any]:
    """The views as tensors and strings, which load without running code."""
    tensors = {name: getattr(views, name) for name in ("images", "frames", "context", "target", "clean")}
    c2w, intrinsics = (None, None) if views.cameras is None else (views.cameras.c2w, views.cameras.intrinsics)
    return {**tensors, "scenes": list(views.scenes), "c2w": c2w, "intrinsics": intrinsics}
