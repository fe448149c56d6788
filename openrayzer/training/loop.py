"""The training loop."""

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from openrayzer.evaluation.metrics.image_metrics import psnr
from openrayzer.interfaces import InputError
from openrayzer.machine import random_state
from openrayzer.machine.distributed import Process
from openrayzer.settings import TrainSettings
from openrayzer.training.engine import Engine, TrainingStopped
from openrayzer.training.faults.bad_steps import LossWatch, Trace, report
from openrayzer.training.faults.interruption import Interruption
from openrayzer.training.logs.console import one_line, progress_bar
from openrayzer.training.logs.loggers import LoggerGroup
from openrayzer.training.logs.meter import Meter
from openrayzer.training.logs.module_statistics import Statistics
from openrayzer.training.objective import Objective
from openrayzer.types import Views

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Occasions:
    """What happens beside the steps; each gets the number of finished steps.

    Attributes:
        evaluate: measures held-out clips; whether the weights should be kept for it.
        picture: draws sample predictions, of the given views if there are no held-out ones.
        save: writes a checkpoint, as far as training must wait for it; an InputError says that it cannot be.
        dump: keeps a skipped step whole.
        tend: goes on with the last checkpoint as far as that needs no waiting; after every step.
        finish: waits until the last checkpoint is there.
    """

    evaluate: Callable[[int], bool]
    picture: Callable[[int, Views], None]
    save: Callable[[int], None]
    dump: Callable[[Trace], None]
    tend: Callable[[], None]
    finish: Callable[[], None]


@dataclass
class Tally:
    """Counts of this process over the whole run; part of a checkpoint.

    Attributes:
        problems: broken scenes and frames that the data loader worked around.
        watch: remembers losses, and notices when they jump.
    """

    watch: LossWatch
    problems: int = 0


def train_loop(
    engine: Engine,
    batches: Iterator[Views],
    *,
    objective: Objective,
    settings: TrainSettings,
    process: Process,
    loggers: LoggerGroup,
    meter: Meter,
    tally: Tally,
    occasions: Occasions,
    statistics: Statistics,
    difficulty: Callable[[int], Mapping[str, float]],
) -> int:
    """Train from ``engine.steps`` to ``settings.steps``.

    ``difficulty`` says how hard the clips of a step, counted from 0, are, in numbers that stand beside the loss.

    Returns:
        The signal that ended the run early, after its checkpoint was written; 0 if it is finished.

    Raises:
        TrainingStopped: it cannot go on; a checkpoint was written, or the log says why not.
        InputError: a checkpoint could not be written.
    """
    signal_number = 0
    bar = progress_bar(process, done=engine.steps, steps=settings.steps)
    meter.start()
    with Interruption() as interruption, bar:
        while engine.steps < settings.steps:
            watched = statistics if _due(engine.steps + 1, settings.statistics_every) else None
            with watched.watching() if watched else nullcontext():
                trace = optimizer_step(
                    engine, batches, objective=objective, settings=settings, meter=meter, tally=tally, watched=watched
                )
            step, last = engine.steps, engine.steps == settings.steps
            bar.update()
            if last or _due(step, settings.log_every):
                record = _record(engine, meter=meter, tally=tally, process=process) | dict(difficulty(step - 1))
                loggers.record(record)
                bar.set_postfix(loss=record.get("loss"), psnr=record.get("psnr"), refresh=False)
                if process.is_first and bar.disable:
                    LOG.info(one_line(record, steps=settings.steps))
            with meter.paused():
                if not engine.last_applied:
                    report(engine, trace)
                    if settings.bad_steps.dump == "first" and engine.skipped == 1:
                        occasions.dump(trace)
                if _due(step, settings.sample_every):
                    occasions.picture(step, trace.micro_batches[-1])
                signal_number = interruption.agreed(process)
                best = False
                if last or (_due(step, settings.evaluate_every) and not signal_number):
                    best = occasions.evaluate(step)
                try:
                    engine.check_skips()
                except TrainingStopped:
                    _save_in_spite_of_all(occasions, step)
                    if settings.bad_steps.dump != "never":
                        occasions.dump(trace)
                    raise
                if last or best or signal_number or _due(step, settings.checkpoint_every):
                    occasions.save(step)
                occasions.tend()
            if signal_number and not last:
                break
        occasions.finish()  # while signals are still noted: a second one must not cut it short
    return signal_number if engine.steps < settings.steps else 0


def _save_in_spite_of_all(occasions: Occasions, step: int) -> None:
    """A checkpoint before the run stops; that it cannot be written is no reason to stop for another reason."""
    try:
        occasions.save(step)
        occasions.finish()
    except InputError as error:
        LOG.error("%s", error)


def optimizer_step(
    engine: Engine,
    batches: Iterator[Views],
    *,
    objective: Objective,
    settings: TrainSettings,
    meter: Meter,
    tally: Tally,
    watched: Statistics | None = None,
) -> Trace:
    """Accumulate gradients over the micro-batches and move the weights, or skip."""
    measured, micro_batches, waited, seen = [], [], 0.0, 0
    step = engine.steps
    random = random_state.capture() if settings.bad_steps.dump != "never" else {}
    for number in range(settings.accumulation):
        asked = time.perf_counter()
        views = next(batches)
        waited += time.perf_counter() - asked
        _report(views, step=step, tally=tally)
        views = views.to(engine.process.device)
        micro_batches.append(views)
        seen += views.images.shape[0] * views.images.shape[1]
        prediction = engine(views)
        target = views.target_images
        terms = objective(prediction.images, target, step=step)
        engine.backward(terms["loss"])
        with torch.no_grad():
            measured.append(terms | {"psnr": psnr(prediction.images.float(), target).mean()})
        last = number + 1 == settings.accumulation
        if watched and last:
            watched.take_gradients()
        loss = _mean_loss(measured) if tally.watch.factor and last else None
        engine.step(loss=loss, objection=tally.watch.objection)
    if engine.last_applied:
        for values in measured:
            meter.add(values)
        meter.add({"grad_norm": engine.last_norm})
    meter.tick(views=seen, waited=waited)
    losses = tuple(values["loss"].detach() for values in measured)
    return Trace(step, tuple(micro_batches), losses, random)


def _mean_loss(measured: Sequence[Mapping[str, Tensor]]) -> Tensor:
    return torch.stack([values["loss"].detach() for values in measured]).mean()


def _record(engine: Engine, *, meter: Meter, tally: Tally, process: Process) -> dict[str, object]:
    """One line of metrics.jsonl."""
    counts = {"skipped": engine.skipped, "problems": int(process.total(torch.tensor([tally.problems])))}
    head: dict[str, object] = {"step": engine.steps, "split": "train"}
    return head | meter.line(process) | {"lr": engine.last_learning_rate} | counts


def _report(views: Views, *, step: int, tally: Tally) -> None:
    for problem in views.problems:
        LOG.warning("step %d: %s", step + 1, problem)
    tally.problems += len(views.problems)


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0
