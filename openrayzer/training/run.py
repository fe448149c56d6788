"""A training run, from built objects to a finished run folder."""

import logging
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from typing import Any

from openrayzer.data.loading.held_out_clips import EvaluationClips, evaluation_views
from openrayzer.data.loading.loader import build_loader
from openrayzer.interfaces import InputError
from openrayzer.machine import random_state
from openrayzer.machine.distributed import Process, started
from openrayzer.machine.fitting_batches import ran_out_of_memory
from openrayzer.settings import Experiment, TrainSettings
from openrayzer.training.checkpointing.resuming import (
    AUTO,
    choose_start,
    lacks_evaluation,
    leave_no_trace,
    prepare_folder,
    step_of,
    take_over,
)
from openrayzer.training.deepspeed_config import load_deepspeed_config, micro_batch_size
from openrayzer.training.engine import Engine, TrainingStopped
from openrayzer.training.faults.bad_steps import LossWatch
from openrayzer.training.faults.exits import leave_now, lost_process
from openrayzer.training.faults.watchdog import Watchdog
from openrayzer.training.initial_weights import take_initial_weights, with_origin
from openrayzer.training.logs.console import logging_to
from openrayzer.training.logs.meter import Meter
from openrayzer.training.loop import train_loop
from openrayzer.training.run_outputs import Run
from openrayzer.training.sequence_parallel import same_clips
from openrayzer.training.weighted_loss import WeightedLoss
from openrayzer.types import Views
from openrayzer.weights.run_layout import HANG
from openrayzer.weights.run_record import run_record

LOG = logging.getLogger(__name__)
STOPPED = 3
SIGNALLED = 128
"""Exit code of a signal minus the number of the signal, as in shells."""
_MEMORY_IS_FULL = (
    "the memory is full: raise train.accumulation, which makes micro-batches smaller, or set "
    "model.activation_checkpointing=1; if one clip is too large, set train.sequence_parallel, so that several ranks "
    "share it; `openrayzer check` estimates the memory of each choice"
)


def train(experiment: Experiment, *, resolved: Mapping[str, Any], run_folder: Path, resume: str = AUTO) -> int:
    """Train an experiment. All processes that the launcher started call this.

    Args:
        experiment: the built experiment; its weights must come from the same seed on all processes.
        resolved: the experiment as JSON, with every default.
        run_folder: receives experiment.json, metrics.jsonl, checkpoints/, samples/, evaluation/, train.log.
        resume: ``auto``, ``none``, or the path of a checkpoint or run folder.

    Returns:
        The exit code: 0 finished; 3 stopped because training could not go on; 130, 138 or 143 interrupted by a signal,
        after a checkpoint.

    Raises:
        InputError: the experiment, the run folder or ``resume`` cannot be used.
    """
    with started() as process:
        empty = process.by_first(lambda: prepare_folder(run_folder))
        with logging_to(run_folder, process):
            try:
                return _train(experiment, process, resolved=resolved, run_folder=run_folder, resume=resume)
            except TrainingStopped as error:
                LOG.error("training stopped: %s", error)
                return STOPPED
            except InputError:
                if empty and process.is_first:
                    leave_no_trace(run_folder)
                raise
            except Exception as error:
                if lost := lost_process(error):
                    LOG.error("%s", lost)
                    leave_now(STOPPED)  # the other processes are gone, and Python's cleanup would wait for them
                LOG.error("rank %d failed: %s: %s", process.rank, type(error).__name__, error)
                if ran_out_of_memory(error):
                    LOG.error(_MEMORY_IS_FULL)
                raise


def _train(
    experiment: Experiment, process: Process, *, resolved: Mapping[str, Any], run_folder: Path, resume: str
) -> int:
    settings = experiment.train
    config = load_deepspeed_config(experiment.deepspeed, settings, world_size=process.world_size)
    process = process.sharing_clips(settings.sequence_parallel)
    record = run_record(resolved, deepspeed=config, world_size=process.world_size)
    start = process.by_first(lambda: choose_start(run_folder, resume, record))
    step = process.by_first(lambda: step_of(start))
    evaluate_first = bool(experiment.data.test) and process.by_first(
        lambda: lacks_evaluation(start, run_folder, settings)
    )
    if step >= settings.steps and not evaluate_first:
        LOG.info("already finished: %s is at step %d of %d", start, step, settings.steps)
        return 0
    weights = take_initial_weights(experiment, run_folder=run_folder, process=process) if start is None else None
    record = process.by_first(lambda: with_origin(record, start=start, weights=weights))
    batches = open_training_clips(experiment, process, step=step)  # before the engine, because most mistakes show here
    test_clips = open_test_clips(experiment, process, stage=config["zero_optimization"]["stage"])
    engine = Engine(experiment.model, settings=settings, config=config, process=process)
    run = Run(experiment, engine, test_clips, record, run_folder, Meter(), _loss_watch(settings))
    random_state.seed_all(settings.seed + 1 + process.clip_number)
    if start is not None:
        run.load(start)
    run.announce(start, weights)
    losses = WeightedLoss(experiment.loss, shares=engine.shares).to(process.device)
    if engine.compiled:
        losses.compile_losses()
    process.by_first(lambda: take_over(run_folder, start, record, evaluated=not evaluate_first))
    run.loggers.open(run_folder, record)
    try:
        watchdog = Watchdog(process, folder=run_folder / HANG, minutes=settings.watchdog_minutes)
        with engine.precision(), watchdog:
            signal_number = train_loop(
                run,
                watchdog.watched(batches),
                losses=losses,
                watchdog=watchdog,
                evaluate_first=evaluate_first,
            )
        if not signal_number:
            run.describe()
    finally:
        try:
            run.checkpoints.close()
        finally:
            run.loggers.close()
            batches.close()  # otherwise the traceback of an error keeps the loading processes alive
    return SIGNALLED + signal_number if signal_number else 0


def open_training_clips(experiment: Experiment, process: Process, *, step: int) -> Generator[Views, None, None]:
    """The micro-batches of this process, from optimizer step ``step`` on.

    Raises:
        InputError: a source cannot be opened.
    """
    settings = experiment.train
    loader = build_loader(
        experiment.data,
        batch_size_per_rank=micro_batch_size(settings, world_size=process.world_size),
        rank=process.clip_number,
        world_size=process.clip_numbers,
        seed=settings.seed,
        start=step * settings.accumulation,
        accumulation=settings.accumulation,
        device=process.device,
        check=experiment.model.check_roles,
    )
    _report(loader.problems, process)
    batches = _started_apart(loader)
    return batches if process.clip_size == 1 else same_clips(batches, process)


def _started_apart(batches: Iterator[Views]) -> Generator[Views, None, None]:
    """The same batches. Starting the loader draws random numbers; the generators are restored afterwards."""
    with random_state.kept():
        first = next(batches)
    yield first
    yield from batches


def open_test_clips(experiment: Experiment, process: Process, *, stage: int) -> EvaluationClips | None:
    """The held-out clips of this process; under ZeRO stage 3 all clips, because its processes must run in step.

    Raises:
        InputError: a source cannot be opened, or none of its scenes can be used.
    """
    if not experiment.data.test:
        return None
    rank, world_size = (0, 1) if stage == 3 else (process.rank, process.world_size)
    clips = evaluation_views(experiment.data, experiment.evaluation, rank=rank, world_size=world_size)
    _report(clips.problems, process)
    return clips


def _loss_watch(settings: TrainSettings) -> LossWatch:
    return LossWatch(factor=settings.bad_steps.loss_factor, grace_steps=settings.bad_steps.grace_steps)


def _report(problems: tuple[str, ...], process: Process) -> None:
    for problem in problems if process.is_first else ():
        LOG.warning("%s", problem)
