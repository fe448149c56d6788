"""The state of a training run, and everything that it writes to its folder."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from openrayzer.data.loading.held_out_clips import EvaluationClips
from openrayzer.interfaces import InputError
from openrayzer.machine import random_state
from openrayzer.machine.writing import write_or_warn
from openrayzer.settings import RENAMED, Experiment
from openrayzer.training.checkpointing.best_checkpoint import BestRule
from openrayzer.training.checkpointing.rank_state import rank_state, restore_random
from openrayzer.training.checkpointing.restoring import load_checkpoint
from openrayzer.training.checkpointing.saving import CheckpointWriter
from openrayzer.training.engine import Engine
from openrayzer.training.faults.bad_steps import LossWatch, StepRecord, dump
from openrayzer.training.held_out import evaluate, per_view_file
from openrayzer.training.initial_weights import warn_of_other_model
from openrayzer.training.logs.console import one_line
from openrayzer.training.logs.loggers import Jsonl, LoggerGroup, finite
from openrayzer.training.logs.meter import Meter
from openrayzer.training.logs.module_statistics import Statistics
from openrayzer.training.logs.sample_pictures import draw_samples
from openrayzer.types import Prediction, Views
from openrayzer.weights.checkpoints.manifest import checkpoint_name, manifests
from openrayzer.weights.export.export_folder import card_of
from openrayzer.weights.run_layout import CHECKPOINTS, MODEL_CARD, SAMPLES, STATISTICS

LOG = logging.getLogger(__name__)


@dataclass
class Run:
    """A run in training and the parts of it that write to its folder.

    Attributes:
        experiment: the built experiment.
        engine: the model in training.
        test_clips: held-out clips of this process; None if there are none.
        record: content of experiment.json.
        folder: the run folder.
        meter: means since the last line of metrics.jsonl.
        loss_watch: notices losses that jump.
        problems: broken scenes and frames that the data loader of this process has worked around.
    """

    experiment: Experiment
    engine: Engine
    test_clips: EvaluationClips | None
    record: Mapping[str, Any]
    folder: Path
    meter: Meter
    loss_watch: LossWatch
    problems: int = 0

    @cached_property
    def checkpoints(self) -> CheckpointWriter:
        """Writes the checkpoints, mostly in the background."""
        keep = self.experiment.train.keep_checkpoints
        return CheckpointWriter(
            self.engine, self.folder / CHECKPOINTS, experiment=self.record, keep=keep, best=self._best
        )

    @cached_property
    def loggers(self) -> LoggerGroup:
        """metrics.jsonl and the loggers of the experiment."""
        own = Jsonl()
        others = [
            logger
            for logger in self.experiment.logging
            if not (isinstance(logger, Jsonl) and logger.filename == own.filename)
        ]
        return LoggerGroup((own, *others), first=self.engine.process.is_first)

    @cached_property
    def statistics(self) -> Statistics:
        """statistics.jsonl, written every ``train.statistics_every`` steps."""
        logger = Jsonl(filename=STATISTICS) if self.engine.process.is_first else None
        if logger is not None:
            logger.open(self.folder, self.record)
        return Statistics(self.engine, logger)

    def announce(self, start: Path | None, initial_weights: Path | None) -> None:
        """Log where the run begins and with which weights."""
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
            LOG.info("starting with random weights, %d steps", settings.steps)

    def count_problems(self, views: Views) -> None:
        """Log and count the broken scenes and frames behind a micro-batch, once if processes share it."""
        if not self.engine.process.leads_clip:
            return
        for problem in views.problems:
            LOG.warning("step %d: %s", self.engine.steps + 1, problem)
        self.problems += len(views.problems)

    def save(self, metrics: Mapping[str, Any] | None = None) -> None:
        """Begin a checkpoint of this step; training may go on when this returns.

        Args:
            metrics: the evaluation of these weights, if there was one.

        Raises:
            InputError: this checkpoint, or the one before it, could not be written.
        """
        state = rank_state(self.meter, problems=self.problems, losses=self.loss_watch.state())
        self.checkpoints.save(state=state, metrics=metrics)

    def save_if_possible(self) -> None:
        """Write a checkpoint before the run ends with an error; if that fails, log it."""
        try:
            if self.checkpoints.step != self.engine.steps:
                self.save()
            self.checkpoints.finish()
        except InputError as error:
            LOG.error("%s", error)

    def load(self, path: Path) -> None:
        """Go on from a checkpoint."""
        process = self.engine.process
        state = load_checkpoint(self.engine, path)
        if state["random"] is None:
            LOG.info("rank %d did not write to %s: its random generators are new", process.rank, path.name)
        seed = self.experiment.train.seed + 1 + process.clip_number
        restore_random(state["random"], seed=seed, step=self.engine.steps)
        self.meter.load(state["meter"], process.device)
        self.problems = state["problems"]
        self.loss_watch.load(state.get("losses", []))
        self.checkpoints.loaded(path)

    def dump(self, made: StepRecord) -> None:
        """Write a skipped step to ``bad_steps/``."""
        dump(self.engine, made, run_folder=self.folder, record=self.record)

    def evaluate(self) -> None:
        """Evaluate the held-out clips, if there are any, and log the metrics.

        The metrics go into the manifest of this step's checkpoint. If this step has none and its metrics are the best
        so far, a checkpoint is written.

        Raises:
            InputError: the manifest or the checkpoint could not be written.
        """
        if self.test_clips is None:
            return
        records = self._measure(self.test_clips)
        for record in records:
            self.loggers.record(record)
            self.loggers.table(record["step"], record["split"], per_view_file(self.folder, record["split"]))
            if self.engine.process.is_first:
                LOG.info(one_line(record, steps=self.experiment.train.steps))
        metrics = finite(records[-1])
        self.checkpoints.finish()  # the comparison with the best one needs all manifests
        improved = self._improved(metrics)
        if self.checkpoints.step == self.engine.steps:
            self.checkpoints.add_metrics(metrics)
        elif improved:
            self.save(metrics)

    @random_state.kept()
    def _measure(self, clips: EvaluationClips) -> list[dict[str, Any]]:
        """One record for the weights and, where the run has one, a second one for their average."""
        measured = partial(
            evaluate, self.engine, clips, run_folder=self.folder, experiment=self.experiment, record=self.record
        )
        records = [measured()]
        if self.engine.average is not None:
            with self.engine.average.in_model():
                records.append(measured(averaged=True))
        return records

    def _improved(self, metrics: Mapping[str, Any]) -> bool:
        best = self._best
        if best is None:
            return False

        def improves() -> bool:
            return best.improves(metrics, list(manifests(self.folder / CHECKPOINTS).values()))

        return self.engine.process.by_first(improves)

    @property
    def _best(self) -> BestRule | None:
        settings = self.experiment.train
        metric = RENAMED.get(settings.best_metric, settings.best_metric)
        return BestRule(metric, settings.best_mode) if metric else None

    def describe(self) -> None:
        """Write the model card of the last checkpoint for the loggers that take it; an error is a warning."""
        if not self.loggers.take_model_card:
            return
        path = self.folder / MODEL_CARD
        try:
            text = card_of(self.folder)
            written = write_or_warn(path, lambda file: file.write_text(text, encoding="utf-8"))
        except Exception as error:  # a page is not worth a run
            LOG.warning("%s could not be written: %s: %s", path, type(error).__name__, error)
        else:
            if written:
                self.loggers.model_card(path)

    @random_state.kept()
    def draw_samples(self, views: Views) -> None:
        """Draw sample predictions of the first held-out clips, or of ``views`` where there are none.

        A picture that cannot be drawn is a warning. An error of the model is raised.
        """
        views = self._sample_views or views
        with self.engine.evaluating() as model:
            if not (self.engine.process.is_first or self.engine.stage == 3):
                return
            prediction = model(views)
        if self.engine.process.is_first:
            self._draw(prediction, views)

    def _draw(self, prediction: Prediction, views: Views) -> None:
        step = self.engine.steps
        path = self.folder / SAMPLES / f"{checkpoint_name(step)}.png"
        try:
            drawn = write_or_warn(path, lambda file: draw_samples(prediction, views, file, step=step))
        except Exception as error:  # a picture is not worth a run
            LOG.warning("%s could not be drawn: %s: %s; training goes on", path, type(error).__name__, error)
        else:
            if drawn:
                self.loggers.picture(step, path)

    @cached_property
    def _sample_views(self) -> Views | None:
        views = next(iter(self.test_clips or ()), None)
        return None if views is None else views.to(self.engine.process.device)
