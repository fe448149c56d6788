"""The training loop: optimizer steps, and the checkpoints, evaluations and sample pictures between them."""

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext

import torch
from torch import Tensor

from openrayzer.evaluation.metrics.image_metrics import psnr
from openrayzer.machine import random_state
from openrayzer.training.engine import TrainingStopped
from openrayzer.training.faults.bad_steps import StepRecord, report
from openrayzer.training.faults.interruption import Interruption
from openrayzer.training.faults.watchdog import CHECKPOINT, EVALUATION, PICTURE, Watchdog
from openrayzer.training.logs.console import one_line, step_counter
from openrayzer.training.logs.gaussian_densities import GaussianDensities
from openrayzer.training.logs.module_statistics import Statistics
from openrayzer.training.run_outputs import Run
from openrayzer.training.weighted_loss import WeightedLoss
from openrayzer.types import Views

LOG = logging.getLogger(__name__)


def train_loop(
    run: Run, batches: Iterator[Views], *, losses: WeightedLoss, watchdog: Watchdog, evaluate_first: bool = False
) -> int:
    """Train from ``run.engine.steps`` to ``train.steps``.

    Args:
        run: the model in training and its run folder.
        batches: micro-batches of this process, one after the other.
        losses: the training loss.
        watchdog: watches the run; the caller has entered its ``with`` block.
        evaluate_first: evaluate before the first step, because the run ended before the evaluation of its checkpoint.

    Returns:
        The signal that ended the run early, after its checkpoint was written; 0 if the run is finished.

    Raises:
        TrainingStopped: training cannot go on. A checkpoint was written, or the log says why not.
        InputError: a checkpoint could not be written.
    """
    engine, settings, meter, process = run.engine, run.experiment.train, run.meter, run.engine.process
    signal_number = 0
    counter = step_counter(done=engine.steps, steps=settings.steps)
    densities = GaussianDensities(engine.model)
    with Interruption() as interruption, counter:
        if evaluate_first:
            with watchdog.during(EVALUATION):
                run.evaluate()
        meter.start()
        while engine.steps < settings.steps:
            number = engine.steps + 1
            watched = run.statistics if _due(number, settings.statistics_every) else None
            logged = number == settings.steps or _due(number, settings.log_every)
            with watched.watching() if watched else nullcontext(), densities.watching(logged):
                made = optimizer_step(run, batches, losses=losses, watched=watched)
            counter.advance()
            if logged:
                run.meter.add(densities.figures())
                record = _record(run)
                run.loggers.record(record)
                counter.note = " ".join(f"{name} {record[name]:.4g}" for name in ("loss", "psnr") if name in record)
                if process.is_first and not counter.drawn:
                    LOG.info(one_line(record, steps=settings.steps))
            with meter.paused():
                signal_number = interruption.agreed(process)
                _after_step(run, made, watchdog=watchdog, interrupted=bool(signal_number))
            if signal_number:
                break
        with watchdog.during(CHECKPOINT):
            run.checkpoints.finish()  # inside the block, so that a second signal does not interrupt it
    return signal_number if engine.steps < settings.steps else 0


def _after_step(run: Run, made: StepRecord, *, watchdog: Watchdog, interrupted: bool) -> None:
    """Save, evaluate and draw sample pictures, if they are due.

    The checkpoint is complete before an evaluation begins, so an error in it loses no steps. Several processes also
    complete it before a picture; one process completes it after the error.
    """
    engine, settings = run.engine, run.experiment.train
    step, last = engine.steps, engine.steps == settings.steps
    saving = last or interrupted or _due(step, settings.checkpoint_every)
    evaluating = run.test_clips is not None and (last or (_due(step, settings.evaluate_every) and not interrupted))
    drawing = _due(step, settings.sample_every)
    if not engine.last_applied:
        _handle_skipped(run, made, watchdog=watchdog)
    if saving:
        with watchdog.during(CHECKPOINT):
            run.save()
            if evaluating or (drawing and engine.process.world_size > 1):
                run.checkpoints.finish()
    try:
        if evaluating:
            with watchdog.during(EVALUATION):
                run.evaluate()
        if drawing:
            with watchdog.during(PICTURE):
                run.draw_samples(made.micro_batches[-1])
    except Exception:
        if engine.process.world_size == 1:  # several processes may fail at different places
            with watchdog.during(CHECKPOINT):
                run.save_if_possible()
        raise
    run.checkpoints.tend()


def _handle_skipped(run: Run, made: StepRecord, *, watchdog: Watchdog) -> None:
    """Log a skipped step, dump it if the settings ask for a dump, and stop after too many skipped steps."""
    engine, when = run.engine, run.experiment.train.bad_steps.dump
    with watchdog.during(CHECKPOINT):
        report(engine, made)
        if when == "first" and engine.skipped == 1:
            run.dump(made)
        try:
            engine.check_skips()
        except TrainingStopped:
            run.save_if_possible()
            if when != "never":
                run.dump(made)
            raise


def optimizer_step(
    run: Run, batches: Iterator[Views], *, losses: WeightedLoss, watched: Statistics | None = None
) -> StepRecord:
    """Accumulate gradients over the micro-batches, then update the weights or skip the step.

    Args:
        run: the model in training.
        batches: micro-batches of this process.
        losses: the training loss.
        watched: statistics that include the gradients of this step.
    """
    engine, settings, watch = run.engine, run.experiment.train, run.loss_watch
    measured, micro_batches, waited, seen = [], [], 0.0, 0
    step = engine.steps
    random = random_state.capture() if settings.bad_steps.dump != "never" else {}
    for number in range(settings.accumulation):
        asked = time.perf_counter()
        views = next(batches)
        waited += time.perf_counter() - asked
        run.count_problems(views)
        views = views.to(engine.process.device)
        micro_batches.append(views)
        seen += views.images.shape[0] * views.images.shape[1] * engine.process.leads_clip
        prediction = engine(views)
        target = views.target_images
        terms = losses(prediction.images, target, step=step, extra=prediction.extra_losses)
        engine.backward(terms["loss"])
        with torch.no_grad():
            measured.append(terms | {"psnr": psnr(prediction.images.float(), target).mean()})
        last = number + 1 == settings.accumulation
        if watched and last:
            watched.take_gradients()
        loss = _mean_loss(measured) if watch.factor and last else None
        engine.step(loss=loss, objection=watch.objection)
    if engine.last_applied:
        for values in measured:
            run.meter.add(values)
        run.meter.add({"grad_norm": engine.last_norm})
    run.meter.tick(views=seen, waited=waited)
    measured_losses = tuple(values["loss"].detach() for values in measured)
    return StepRecord(step, tuple(micro_batches), measured_losses, random)


def _mean_loss(measured: Sequence[Mapping[str, Tensor]]) -> Tensor:
    return torch.stack([values["loss"].detach() for values in measured]).mean()


def _record(run: Run) -> dict[str, object]:
    """The line of metrics.jsonl for the last step."""
    engine, process = run.engine, run.engine.process
    counts = {"skipped": engine.skipped, "problems": int(process.total(torch.tensor([run.problems])))}
    head: dict[str, object] = {"step": engine.steps, "split": "train"}
    rates = run.meter.line(process) | {"lr": engine.last_learning_rate}
    return head | rates | counts | dict(run.experiment.data.view_sampler.difficulty(engine.steps - 1))


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0
