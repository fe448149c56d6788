"""One training run, from built objects to a finished run folder."""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

from openrayzer.data.evaluation_clips import EvaluationClips, evaluation_views
from openrayzer.data.loader import build_loader
from openrayzer.interfaces import InputError
from openrayzer.settings import Experiment, TrainSettings
from openrayzer.training import random_state
from openrayzer.training.background import Background
from openrayzer.training.bad_steps import LossWatch, Trace, dump
from openrayzer.training.best_checkpoint import Best
from openrayzer.training.checkpoint import checkpoint_name, load_checkpoint, manifests, save_checkpoint
from openrayzer.training.console import logging_to, one_line
from openrayzer.training.deepspeed_config import load_deepspeed_config, micro_batch_size
from openrayzer.training.distributed import Process, started
from openrayzer.training.engine import Engine, TrainingStopped
from openrayzer.training.evaluate import evaluate
from openrayzer.training.known_cameras import require_known_cameras
from openrayzer.training.leaving import leave_now, lost_process
from openrayzer.training.loggers import Jsonl, LoggerGroup, finite, write_whole
from openrayzer.training.loop import Occasions, Tally, train_loop
from openrayzer.training.meter import Meter
from openrayzer.training.objective import Objective
from openrayzer.training.rank_state import rank_state, restore_random
from openrayzer.training.resuming import (
    AUTO,
    CHECKPOINTS,
    choose_start,
    leave_no_trace,
    prepare_folder,
    step_of,
    take_over,
)
from openrayzer.training.run_record import run_record
from openrayzer.training.samples import draw_samples
from openrayzer.training.statistics import FILE as STATISTICS
from openrayzer.training.statistics import Statistics
from openrayzer.training.watchdog import CHECKPOINT, EVALUATION, PICTURE, Watchdog
from openrayzer.training.weights import take_initial_weights, warn_of_other_model, with_origin
from openrayzer.types import Views

LOG = logging.getLogger(__name__)
STOPPED = 3
EVALUATED, AVERAGED, HANG = "evaluation", "ema", "hang"
SIGNALLED = 128
"""Added to the number of the signal, as shells do."""


def train(experiment: Experiment, *, resolved: Mapping[str, Any], run_folder: Path, resume: str = AUTO) -> int:
    """Train, on all processes that the launcher started.

    Args:
        experiment: built; its weights must come from the same seed on all processes.
        resolved: the same as JSON, every default written out.
        run_folder: gets experiment.json, metrics.jsonl, checkpoints/, samples/, evaluation/, train.log.
        resume: ``auto``, ``none``, or the path of a checkpoint or run folder.

    Returns:
        The exit code: 0 finished, 3 stopped because it could not go on, 130, 138 or 143 interrupted after a checkpoint.

    Raises:
        InputError: something the user gave cannot work.
    """
    require_known_cameras(experiment)
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
                    leave_now(STOPPED)  # the others are gone: goodbyes would wait for them
                LOG.error("rank %d failed: %s: %s", process.rank, type(error).__name__, error)
                raise


def _train(
    experiment: Experiment, process: Process, *, resolved: Mapping[str, Any], run_folder: Path, resume: str
) -> int:
    settings = experiment.train
    config = load_deepspeed_config(experiment.deepspeed, settings, world_size=process.world_size)
    record = run_record(resolved, deepspeed=config, world_size=process.world_size)
    start = process.by_first(lambda: choose_start(run_folder, resume, record))
    step = step_of(start)
    if step >= settings.steps:
        LOG.info("already finished: %s is at step %d of %d", start, step, settings.steps)
        return 0
    weights = take_initial_weights(experiment, run_folder=run_folder, process=process) if start is None else None
    record = process.by_first(lambda: with_origin(record, start=start, weights=weights))
    batches = open_training_clips(experiment, process, step=step)  # before the engine: a mistake shows soonest here
    test_clips = open_test_clips(experiment, process, stage=config["zero_optimization"]["stage"])
    engine = Engine(experiment.model, settings=settings, config=config, process=process)
    run = Run(experiment, engine, test_clips, record=record, folder=run_folder, meter=Meter(), tally=_tally(settings))
    random_state.seed_all(settings.seed + 1 + process.rank)
    if start is not None:
        run.load(start)
    run.announce(start, weights)
    process.by_first(lambda: take_over(run_folder, start, record))
    run.loggers.open(run_folder, record)
    try:
        with Watchdog(process, folder=run_folder / HANG, minutes=settings.watchdog_minutes) as watchdog:
            signal_number = train_loop(
                engine,
                watchdog.watched(batches),
                objective=Objective(experiment.loss).to(process.device),
                settings=settings,
                process=process,
                loggers=run.loggers,
                meter=run.meter,
                tally=run.tally,
                occasions=Occasions(
                    evaluate=watchdog.during(EVALUATION, run.evaluate),
                    picture=watchdog.during(PICTURE, run.picture),
                    save=watchdog.during(CHECKPOINT, run.save),
                    dump=watchdog.during(CHECKPOINT, run.dump),
                ),
                statistics=run.statistics,
                difficulty=experiment.data.view_sampler.difficulty,
            )
        process.by_first(run.background.wait)
    finally:
        try:
            run.background.wait()
        finally:
            run.loggers.close()
    return SIGNALLED + signal_number if signal_number else 0


def open_training_clips(experiment: Experiment, process: Process, *, step: int) -> Iterator[Views]:
    """This process's micro-batches from optimizer step ``step`` on.

    Raises:
        InputError: a source cannot be opened.
    """
    settings = experiment.train
    loader = build_loader(
        experiment.data,
        batch_size_per_rank=micro_batch_size(settings, world_size=process.world_size),
        rank=process.rank,
        world_size=process.world_size,
        seed=settings.seed,
        start=step * settings.accumulation,
        accumulation=settings.accumulation,
        device=process.device,
    )
    _report(loader.problems, process)
    return _started_apart(loader)


def _started_apart(batches: Iterator[Views]) -> Iterator[Views]:
    """The same batches; what the start of their loading draws is not drawn again when a run goes on."""
    with random_state.kept():
        first = next(batches)
    yield first
    yield from batches


def open_test_clips(experiment: Experiment, process: Process, *, stage: int) -> EvaluationClips | None:
    """This process's share of the held-out clips; all of them under ZeRO-3, whose processes must keep in step.

    Raises:
        InputError: a source cannot be opened, or none of its scenes can be used.
    """
    if not experiment.data.test:
        return None
    rank, world_size = (0, 1) if stage == 3 else (process.rank, process.world_size)
    clips = evaluation_views(experiment.data, experiment.evaluation, rank=rank, world_size=world_size)
    _report(clips.problems, process)
    return clips


def _tally(settings: TrainSettings) -> Tally:
    rule = settings.bad_steps
    return Tally(LossWatch(factor=rule.loss_factor, grace_steps=rule.grace_steps))


def _report(problems: tuple[str, ...], process: Process) -> None:
    for problem in problems if process.is_first else ():
        LOG.warning("%s", problem)


@dataclass
class Run:
    """The parts of a run that write to its folder, and what they share.

    Attributes:
        experiment: built.
        engine: the model in training.
        test_clips: what is evaluated, if anything.
        record: what experiment.json holds.
        folder: the run folder.
        meter: means since the last line of metrics.jsonl.
        tally: counts over the run.
    """

    experiment: Experiment
    engine: Engine
    test_clips: EvaluationClips | None
    record: Mapping[str, Any]
    folder: Path
    meter: Meter
    tally: Tally
    _measured: tuple[int, Mapping[str, Any]] = (0, MappingProxyType({}))  # at which step, and what

    @cached_property
    def background(self) -> Background:
        """Where checkpoints are finished while training goes on."""
        return Background()

    @cached_property
    def loggers(self) -> LoggerGroup:
        """metrics.jsonl and what the experiment lists; none on other ranks than the first."""
        if not self.engine.process.is_first:
            return LoggerGroup(())
        own = Jsonl()
        others = [
            logger
            for logger in self.experiment.logging
            if not (isinstance(logger, Jsonl) and logger.filename == own.filename)
        ]
        return LoggerGroup((own, *others))

    @cached_property
    def statistics(self) -> Statistics:
        """statistics.jsonl, written where ``train.statistics_every`` asks for it."""
        logger = Jsonl(filename=STATISTICS) if self.engine.process.is_first else None
        if logger is not None:
            logger.open(self.folder, self.record)
        return Statistics(self.engine, logger)

    def announce(self, start: Path | None, initial_weights: Path | None) -> None:
        """Say what begins where."""
        process, settings = self.engine.process, self.experiment.train
        if not process.is_first:
            return
        count = self.engine.num_weights
        LOG.info("%s: %d process(es) on %s, %d weights", self.folder, process.world_size, process.device.type, count)
        if start is not None:
            LOG.info("going on from %s, step %d of %d", start, self.engine.steps, settings.steps)
        elif initial_weights is not None:
            LOG.info("starting from the weights of %s, %d steps", initial_weights, settings.steps)
            warn_of_other_model(initial_weights, self.record)
        else:
            LOG.info("starting from nothing, %d steps", settings.steps)

    def save(self, step: int) -> None:
        """Write a checkpoint."""
        save_checkpoint(
            self.engine,
            self.folder / CHECKPOINTS,
            state=rank_state(self.meter, problems=self.tally.problems, losses=self.tally.watch.state()),
            experiment=self.record,
            keep=self.experiment.train.keep_checkpoints,
            background=self.background,
            best=self._best,
            metrics=finite(self._measured[1]) if self._measured[0] == step else {},
        )

    def load(self, path: Path) -> None:
        """Go on from a checkpoint."""
        process = self.engine.process
        state = load_checkpoint(self.engine, path)
        restore_random(state["random"], seed=self.experiment.train.seed + 1 + process.rank, step=self.engine.steps)
        self.meter.load(state["meter"], process.device)
        self.tally.problems = state["problems"]
        self.tally.watch.load(state.get("losses", []))

    def dump(self, trace: Trace) -> None:
        """Keep a skipped step whole."""
        dump(self.engine, trace, run_folder=self.folder, record=self.record)

    @random_state.kept()
    def evaluate(self, step: int) -> bool:
        """Measure the held-out clips, if there are any; whether these weights are the best so far."""
        if self.test_clips is None:
            return False
        records = [evaluate(self.engine, self.test_clips, folder=self.folder / EVALUATED)]
        if self.engine.average is not None:
            with self.engine.average.in_model():
                record = evaluate(self.engine, self.test_clips, folder=self.folder / EVALUATED / AVERAGED)
            records.append(record | {"split": f"test_{AVERAGED}"})
        for record in records:
            self.loggers.record(record)
            if self.engine.process.is_first:
                LOG.info(one_line(record, steps=self.experiment.train.steps))
        self._measured = step, records[-1]
        return self._is_best(records[-1])

    def _is_best(self, metrics: Mapping[str, Any]) -> bool:
        best = self._best
        if best is None:
            return False

        def improves() -> bool:
            self.background.wait()
            return best.improves(metrics, list(manifests(self.folder / CHECKPOINTS).values()))

        return self.engine.process.by_first(improves)

    @property
    def _best(self) -> Best | None:
        settings = self.experiment.train
        return Best(settings.best_metric, settings.best_mode) if settings.best_metric else None

    @random_state.kept()
    def picture(self, step: int, views: Views) -> None:
        """Draw sample predictions: of held-out clips, always the same, or else of ``views``."""
        views = self._sample_views or views
        with self.engine.evaluating() as model:
            if not (self.engine.process.is_first or self.engine.stage == 3):
                return
            prediction = model(views).images.float()
        if self.engine.process.is_first:
            path = self.folder / "samples" / f"{checkpoint_name(step)}.png"
            if write_whole(path, lambda unfinished: draw_samples(prediction, views, unfinished, step=step)):
                self.loggers.picture(step, path)

    @cached_property
    def _sample_views(self) -> Views | None:
        views = next(iter(self.test_clips or ()), None)
        return None if views is None else views.to(self.engine.process.device)
