"""Writing a checkpoint: training waits until its files are written, the rest happens beside it.

``checkpoints/step_00001000/`` comes into being in three parts:

1. all processes write their files into ``step_00001000.tmp``, while training waits;
2. each flushes its own to disk and takes their checksums: on a network file system nobody else can;
3. once all have, rank 0 reads everything back, adds the manifest and renames the folder; then ``latest`` names it.

2 and 3 happen in threads. Agreements between processes are made in the main thread only, after each step.
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
from openrayzer.training.checkpointing.best_checkpoint import METRICS, Best
from openrayzer.training.checkpointing.publishing import Files, describe, flush, prune, publish, write_text
from openrayzer.training.engine import Engine
from openrayzer.weights.checkpoints.manifest import FORMAT, MANIFEST, checkpoint_name, rank_file
from openrayzer.weights.run_layout import EXPERIMENT

LOG = logging.getLogger(__name__)
_TORCH_CANNOT_WRITE = ("PytorchStreamWriter", "inline_container", "iostream error")
"""What torch's RuntimeError says when a write fails; it drops the operating system's reason."""


class OwnFiles:
    """The files of a checkpoint that this process writes.

    A write that fails is remembered until ``check``: between the writes lie agreements of all processes inside
    DeepSpeed, in which the others would wait for this one.

    Attributes:
        names: of what was written.
    """

    def __init__(self) -> None:
        self.names: list[str] = []
        self._error: Exception | None = None

    def write(self, content: Any, file: str | Path) -> None:
        """Write one file by ``torch.save``."""
        if self._error is not None:
            return
        try:
            torch.save(content, file)
            self.names.append(Path(file).name)
        except (OSError, RuntimeError) as error:
            self._error = error

    def check(self) -> None:
        """Raise what the first failed write raised."""
        if self._error is not None:
            raise self._error


@dataclass
class _Pending:
    """A checkpoint that is not announced yet.

    Attributes:
        final: what it will be called.
        unfinished: what it is called until then.
        names: files that this process wrote.
        manifest: what it says besides the files.
        begun: when, by ``time.perf_counter``.
        stall: seconds that training waited.
        files: sizes and checksums of ``names``, once they are on disk.
        publishing: whether the files of all processes are.
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

    All processes call ``save``, ``tend`` and ``finish`` at the same places, and an InputError is raised on all of them:
    the disk is full or cannot be written. The checkpoints before are untouched then.

    Args:
        engine: weights, optimizer, schedule and step counts.
        folder: the run's ``checkpoints``, which all processes must see.
        experiment: the resolved experiment and what the run was started with.
        keep: how many of the newest stay.
        best: decides which checkpoint is the best; that one is kept as well.

    Attributes:
        step: of the newest checkpoint of this run; -1 before there is one.
    """

    def __init__(
        self, engine: Engine, folder: Path, *, experiment: Mapping[str, Any], keep: int, best: Best | None = None
    ) -> None:
        self._engine, self._process, self._folder = engine, engine.process, folder
        self._experiment, self._keep, self._best = experiment, keep, best
        self._background = Background()
        self._pending: _Pending | None = None
        self.step = -1

    def loaded(self, path: Path) -> None:
        """Note that the run goes on from a checkpoint."""
        if path.parent.resolve() == self._folder.resolve():
            self.step = self._engine.steps

    def save(self, *, state: Mapping[str, Any], metrics: Mapping[str, Any] | None = None) -> None:
        """Write the files of a checkpoint; when it returns, training may go on.

        Args:
            state: what this process needs to go on: tensors and plain values only.
            metrics: what was measured with these very weights, if anything.

        Raises:
            InputError: now, or for the checkpoint before.
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
            "zero_stage": engine.stage,
            METRICS: dict(metrics or {}),
        }
        with self._removed_if_failed(unfinished):
            self._process.by_first(_explaining(self._folder, name, partial(self._make_room, unfinished)))
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
        """Add the evaluation of the newest checkpoint to its manifest, and keep the checkpoint if it is the best.

        Raises:
            InputError: it could not be written, on all processes.
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
        """Go on with a checkpoint as far as that needs no waiting; after every step.

        Raises:
            InputError: it could not be finished.
        """
        if self._pending is not None and not self._process.largest(int(self._background.busy)):
            self._advance(self._pending)

    def finish(self) -> None:
        """Wait until the last checkpoint is announced.

        Raises:
            InputError: it could not be finished.
        """
        while self._pending is not None:
            self._advance(self._pending)

    def close(self) -> None:
        """End what goes on in threads; at the end of a run that failed, when the others may be gone."""
        try:
            if self._process.world_size == 1:
                self.finish()
            else:
                self._background.wait()
        except InputError as error:
            LOG.error("%s", error)

    def _advance(self, pending: _Pending) -> None:
        """From one part to the next, all processes together."""
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
            "checkpoint %s written in %.1f s, for %.1f s of which training waited",
            pending.final.name, time.perf_counter() - pending.begun, pending.stall,
        )  # fmt: skip

    def _make_room(self, unfinished: Path) -> None:
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
    """``function``, with an InputError for what a full disk makes it raise."""

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
    """Have DeepSpeed's engine write by ``files``, and leave out the script that it lays beside its checkpoints: it
    unpickles them.
    """
    writer = deepspeed.checkpoint_engine
    writer.save = lambda state_dict, path: files.write(state_dict, path)
    deepspeed._copy_recovery_script = lambda folder: None
    try:
        yield
    finally:
        del writer.save, deepspeed._copy_recovery_script


@contextmanager
def _without_checksums_of_torch() -> Iterator[None]:
    """The manifest has checksums of whole files; torch would compute its own for every tensor on top."""
    before = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    try:
        yield
    finally:
        torch.serialization.set_crc32_options(before)
