"""Writing a checkpoint. Training waits while the files are written; the rest runs in the background.

A checkpoint such as ``checkpoints/step_00001000/`` is written in three parts:

1. All processes write their files into ``step_00001000.tmp``, while training waits.
2. Each process flushes its own files to the disk and computes their checksums. On a network file system only the
   process that wrote a file can flush it.
3. When all processes are done, rank 0 reads everything back, writes the manifest and renames the folder. Then the file
   ``latest`` names it.

Parts 2 and 3 run in threads. Processes communicate in the main thread only, after each step.
"""

import json
import logging
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch

from openrayzer.interfaces import InputError
from openrayzer.training.checkpointing import publishing
from openrayzer.training.checkpointing.background import Background
from openrayzer.training.checkpointing.best_checkpoint import METRICS, BestRule
from openrayzer.training.checkpointing.publishing import Files, describe, flush, prune, publish, write_text
from openrayzer.training.engine import Engine
from openrayzer.weights.checkpoints.manifest import FORMAT, MANIFEST, checkpoint_name, rank_file
from openrayzer.weights.run_layout import EXPERIMENT

LOG = logging.getLogger(__name__)
_TORCH_CANNOT_WRITE = ("PytorchStreamWriter", "inline_container", "iostream error")
"""Parts of torch's RuntimeError after a failed write, which omits the reason of the operating system."""


class OwnFiles:
    """The files of a checkpoint that this process writes.

    ``check`` raises the error of the first failed write. DeepSpeed runs collective operations between the writes, and
    an error there would leave the other processes waiting.

    Attributes:
        names: names of the written files.
    """

    def __init__(self) -> None:
        self.names: list[str] = []
        self._error: Exception | None = None

    def write(self, content: Any, file: str | Path) -> None:
        """Write one file with ``torch.save``."""
        if self._error is not None:
            return
        try:
            torch.save(content, file)
            self.names.append(Path(file).name)
        except (OSError, RuntimeError) as error:
            self._error = error

    def check(self) -> None:
        """Raise the error of the first write that failed."""
        if self._error is not None:
            raise self._error


@dataclass
class _Pending:
    """A checkpoint that is not published yet.

    Attributes:
        final: folder of the finished checkpoint.
        unfinished: folder before the checkpoint is finished.
        names: files that this process wrote.
        manifest: the manifest without ``files``.
        begun: start of the writing, by ``time.perf_counter``.
        stall: seconds that training waited.
        files: sizes and checksums of ``names``, once they are on the disk.
        publishing: whether the files of all processes are on the disk.
    """

    final: Path
    unfinished: Path
    names: list[str]
    manifest: Mapping[str, Any]
    begun: float
    stall: float = 0.0
    files: Files = field(default_factory=dict)
    publishing: bool = False


class CheckpointWriter:
    """Writes the checkpoints of a run, one after the other.

    All processes call the methods together. If the disk is full or cannot be written, all of them raise an InputError;
    older checkpoints do not change.

    Args:
        engine: weights, optimizer, schedule and step counts.
        folder: the run's ``checkpoints``, visible to all processes.
        experiment: content of experiment.json.
        keep: number of newest checkpoints to keep.
        best: selects the best checkpoint, which is kept as well; None keeps only the newest.

    Attributes:
        step: step of the newest checkpoint of this run; -1 before the first checkpoint.
    """

    def __init__(
        self, engine: Engine, folder: Path, *, experiment: Mapping[str, Any], keep: int, best: BestRule | None = None
    ) -> None:
        self._engine, self._process, self._folder = engine, engine.process, folder
        self._experiment, self._keep, self._best = experiment, keep, best
        self._background = Background()
        self._pending: _Pending | None = None
        self.step = -1

    def loaded(self, path: Path) -> None:
        """Note that the run goes on from the checkpoint ``path``."""
        if path.parent.resolve() == self._folder.resolve():
            self.step = self._engine.steps

    def save(self, *, state: Mapping[str, Any], metrics: Mapping[str, Any] | None = None) -> None:
        """Write the files of a checkpoint. Training may go on when this returns.

        Args:
            state: state of this process, from ``rank_state``.
            metrics: the evaluation of these weights; None if there is none yet.

        Raises:
            InputError: this checkpoint, or the one before, could not be written.
        """
        self.finish()
        begun, engine = time.perf_counter(), self._engine
        name = checkpoint_name(engine.steps)
        unfinished = self._folder / f"{name}.tmp"
        manifest = {
            "format": FORMAT,
            "step": engine.steps,
            "skipped": engine.skipped,
            "skipped_in_a_row": engine.skipped_in_a_row,
            "world_size": self._process.world_size,
            "sequence_parallel": self._process.clip_size,
            "zero_stage": engine.stage,
            METRICS: dict(metrics or {}),
        }
        with self._removed_if_failed(unfinished):
            self._process.by_first(_explaining(self._folder, name, partial(self._create_folder, unfinished)))
            files = OwnFiles()
            with _without_checksums_of_torch(), _through(engine.deepspeed, files):
                write = partial(engine.deepspeed.save_checkpoint, str(self._folder), save_latest=False)
                _explaining(self._folder, name, partial(write, tag=unfinished.name))()
            files.write(dict(state), unfinished / rank_file(self._process.rank))
            if engine.average is not None:
                engine.average.save(unfinished, rank=self._process.rank, write=files.write)
            self._process.by_all(_explaining(self._folder, name, files.check))
        self.step = engine.steps
        pending = _Pending(self._folder / name, unfinished, files.names, manifest, begun)
        pending.stall = time.perf_counter() - begun
        self._pending = pending
        self._background.begin(_explaining(self._folder, name, partial(_flush_own, pending)))

    def add_metrics(self, metrics: Mapping[str, Any]) -> None:
        """Add the evaluation of the newest checkpoint to its manifest, and select the best checkpoint again.

        Raises:
            InputError: the manifest could not be written.
        """
        self.finish()
        checkpoint = self._folder / checkpoint_name(self.step)

        def add() -> None:
            try:
                publishing.add_metrics(checkpoint, metrics)
            except OSError as error:
                raise InputError(
                    f"the metrics of {checkpoint} could not be written to its {MANIFEST}: {error}. The checkpoint is "
                    "good: free some space, or make the folder writable, and start the same command again"
                ) from error
            prune(self._folder, keep=self._keep, best=self._best)

        self._process.by_first(add)

    def tend(self) -> None:
        """Advance the pending checkpoint if that needs no waiting. Call this after every step.

        Raises:
            InputError: the checkpoint could not be finished.
        """
        if self._pending is not None and not self._process.largest(int(self._background.busy)):
            self._advance(self._pending)

    def finish(self) -> None:
        """Wait until the pending checkpoint is published.

        Raises:
            InputError: the checkpoint could not be finished.
        """
        while self._pending is not None:
            self._advance(self._pending)

    def close(self) -> None:
        """End the background work of a run that may have failed, without waiting for other processes."""
        try:
            if self._process.world_size == 1:
                self.finish()
            else:
                self._background.wait()
        except InputError as error:
            LOG.error("%s", error)

    def _advance(self, pending: _Pending) -> None:
        """Begin the next part of the pending checkpoint, all processes together."""
        self._pending = None
        with self._removed_if_failed(pending.unfinished):
            self._process.by_all(self._background.wait)
            if pending.publishing:
                return
            files = {name: facts for own in self._process.gather(pending.files) for name, facts in own.items()}
            if self._process.is_first:
                work = partial(self._publish, pending, files)
                self._background.begin(_explaining(self._folder, pending.final.name, work))
        pending.publishing = True
        self._pending = pending

    def _publish(self, pending: _Pending, files: Files) -> None:
        write_text(pending.unfinished / EXPERIMENT, json.dumps(self._experiment, indent=2, default=str))
        files = files | describe(pending.unfinished, [EXPERIMENT])
        publish(pending.unfinished, pending.final, {**pending.manifest, "files": files})
        prune(self._folder, keep=self._keep, best=self._best)
        LOG.info(
            "checkpoint %s complete after %.1f s; its files took %.1f s",
            pending.final.name, time.perf_counter() - pending.begun, pending.stall,
        )  # fmt: skip

    def _create_folder(self, unfinished: Path) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        for stale in self._folder.glob("*.tmp"):
            shutil.rmtree(stale, ignore_errors=True) if stale.is_dir() else stale.unlink()
        unfinished.mkdir()

    @contextmanager
    def _removed_if_failed(self, unfinished: Path) -> Iterator[None]:
        try:
            yield
        except InputError:
            if self._process.is_first:
                shutil.rmtree(unfinished, ignore_errors=True)
            raise


def _flush_own(pending: _Pending) -> None:
    pending.files = describe(pending.unfinished, pending.names)
    for name in pending.names:
        flush(pending.unfinished / name)


def _explaining(folder: Path, name: str, function: Callable[[], object]) -> Callable[[], None]:
    """``function`` with an InputError in place of the errors of a full or unwritable disk."""

    def explained() -> None:
        try:
            function()
        except (OSError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and not any(words in str(error) for words in _TORCH_CANNOT_WRITE):
                raise
            reason = error if isinstance(error, OSError) else f"{_free(folder)} are free there"
            raise InputError(
                f"checkpoint {name} could not be written to {folder}: {reason}. The checkpoints before it are "
                "untouched: free some space, or make the folder writable, and start the same command again"
            ) from error

    return explained


def _free(folder: Path) -> str:
    return f"{shutil.disk_usage(folder).free >> 20} MiB"


@contextmanager
def _through(deepspeed: Any, files: OwnFiles) -> Iterator[None]:
    """Have DeepSpeed write through ``files``, without its recovery script, which unpickles checkpoints."""
    writer = deepspeed.checkpoint_engine
    writer.save = lambda state_dict, path: files.write(state_dict, path)
    deepspeed._copy_recovery_script = lambda folder: None
    try:
        yield
    finally:
        del writer.save, deepspeed._copy_recovery_script


@contextmanager
def _without_checksums_of_torch() -> Iterator[None]:
    """Turn off torch's checksums of tensors; the manifest has checksums of whole files."""
    before = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    try:
        yield
    finally:
        torch.serialization.set_crc32_options(before)
