"""The parts of a training run that write to its folder."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

from openrayzer.data.loading.held_out_clips import EvaluationClips
from openrayzer.machine import random_state
from openrayzer.machine.writing import write_whole
from openrayzer.settings import Experiment
from openrayzer.training.checkpointing.best_checkpoint import Best
from openrayzer.training.checkpointing.rank_state import rank_state, restore_random
from openrayzer.training.checkpointing.restoring import load_checkpoint
from openrayzer.training.checkpointing.saving import CheckpointWriter
from openrayzer.training.engine import Engine
from openrayzer.training.faults.bad_steps import Trace, dump
from openrayzer.training.held_out import evaluate
from openrayzer.training.initial_weights import warn_of_other_model
from openrayzer.training.logs.console import one_line
from openrayzer.training.logs.loggers import Jsonl, LoggerGroup, finite
from openrayzer.training.logs.meter import Meter
from openrayzer.training.logs.module_statistics import Statistics
from openrayzer.training.logs.sample_pictures import draw_samples
from openrayzer.training.loop import Tally
from openrayzer.types import Views
from openrayzer.weights.checkpoints.manifest import checkpoint_name, manifests
from openrayzer.weights.run_layout import AVERAGED, CHECKPOINTS, EVALUATED, SAMPLES, STATISTICS

LOG = logging.getLogger(__name__)


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
    def checkpoints(self) -> CheckpointWriter:
        """Writes them, most of it while training goes on."""
        keep = self.experiment.train.keep_checkpoints
        return CheckpointWriter(
            self.engine, self.folder / CHECKPOINTS, experiment=self.record, keep=keep, best=self._best
        )

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
        self.checkpoints.save(
            state=rank_state(self.meter, problems=self.tally.problems, losses=self.tally.watch.state()),
            metrics=finite(self._measured[1]) if self._measured[0] == step else {},
        )

    def load(self, path: Path) -> None:
        """Go on from a checkpoint."""
        process = self.engine.process
        state = load_checkpoint(self.engine, path)
        if state["random"] is None:
            LOG.info(
                "rank %d was not there when %s was written: its random generators are new", process.rank, path.name
            )
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
        self.checkpoints.finish()  # it is among those that must be exceeded

        def improves() -> bool:
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
            path = self.folder / SAMPLES / f"{checkpoint_name(step)}.png"
            if write_whole(path, lambda unfinished: draw_samples(prediction, views, unfinished, step=step)):
                self.loggers.picture(step, path)

    @cached_property
    def _sample_views(self) -> Views | None:
        views = next(iter(self.test_clips or ()), None)
        return None if views is None else views.to(self.engine.process.device)
