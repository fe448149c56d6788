"""Checkpoints of several processes: an error of one reaches all, and nothing is published too early."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from openrayzer.interfaces import InputError
from openrayzer.machine.distributed import Process
from openrayzer.training.checkpointing import publishing, saving
from openrayzer.training.checkpointing.saving import CheckpointWriter
from openrayzer.training.engine import Engine
from openrayzer.weights.checkpoints.manifest import damage_of, newest_good, read_manifest

WORLD = 2
TIMEOUT = 60  # seconds


class Meeting:
    """A meeting point of threads that act as processes."""

    def __init__(self) -> None:
        self.barrier, self.values = threading.Barrier(WORLD), [None] * WORLD


class Played(Process):
    """A process that is a thread."""

    def __init__(self, rank: int, meeting: Meeting) -> None:
        super().__init__(rank, rank, WORLD, torch.device("cpu"), meeting)

    def gather(self, value: Any) -> list[Any]:
        self.messages.values[self.rank] = value
        self.messages.barrier.wait(TIMEOUT)
        values = list(self.messages.values)
        self.messages.barrier.wait(TIMEOUT)
        return values

    def largest(self, value: int) -> int:
        return max(self.gather(value))

    def by_first(self, function: Callable[[], Any]) -> Any:
        result = None
        if not self.is_first:
            self.by_all(lambda: None)
        else:

            def keep() -> None:
                nonlocal result
                result = function()

            self.by_all(keep)
        return self.gather(result)[0]


class Written(Engine):
    """Writes like DeepSpeed: one file per process, with collective operations before and after."""

    def __init__(self, process: Process) -> None:
        self.process, self.deepspeed, self.checkpoint_engine = process, self, SimpleNamespace()
        self.average, self.stage, self.steps, self.skipped, self.skipped_in_a_row = None, 2, 0, 0, 0

    def save_checkpoint(self, folder: str, *, tag: str, save_latest: bool) -> None:
        self.process.gather(None)
        self.checkpoint_engine.save({"step": self.steps}, f"{folder}/{tag}/zero_{self.process.rank}.pt")
        self.process.gather(None)


@pytest.fixture
def everywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Any]]:
    """Run a function on all processes, each with a checkpoint writer for the same folder."""
    monkeypatch.setattr(saving, "_without_checksums_of_torch", nullcontext)  # threads share that setting
    meeting = Meeting()
    writers = [CheckpointWriter(Written(Played(rank, meeting)), tmp_path, experiment={}, keep=2) for rank in range(2)]

    def run(function: Callable[[CheckpointWriter], Any]) -> list[Any]:
        def one(writer: CheckpointWriter) -> Any:
            try:
                return function(writer)
            except InputError as error:
                return str(error)

        with ThreadPoolExecutor(WORLD) as pool:
            return list(pool.map(one, writers))

    return run


def save(writer: CheckpointWriter) -> None:
    writer._engine.steps += 1
    writer.save(state={})


def finish(writer: CheckpointWriter) -> None:
    writer.finish()


def test_each_process_flushes_its_own_files_before_anything_is_announced(
    everywhere: Callable[..., list[Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    flushed, free = [], threading.Event()

    def flush(path: Path) -> None:
        if path.name == "zero_1.pt":
            assert free.wait(TIMEOUT)
        flushed.append((threading.get_ident(), path.name))
        publishing.flush(path)

    monkeypatch.setattr(saving, "flush", flush)
    everywhere(save)
    for _ in range(3):
        everywhere(lambda writer: writer.tend())  # returns at once
    assert not (tmp_path / "latest").exists()
    free.set()
    assert everywhere(finish) == [None, None]
    assert (tmp_path / "latest").read_text() == "step_00000001"
    by_thread = {thread: {name for one, name in flushed if one == thread} for thread, _ in flushed}
    assert sorted(map(sorted, by_thread.values())) == [["rank_00000.pt", "zero_0.pt"], ["rank_00001.pt", "zero_1.pt"]]
    files = read_manifest(tmp_path / "step_00000001")["files"]
    assert set(files) == {"rank_00000.pt", "zero_0.pt", "rank_00001.pt", "zero_1.pt", "experiment.json"}
    assert not damage_of(tmp_path / "step_00000001")


def test_a_checkpoint_is_published_without_waiting(everywhere: Callable[..., list[Any]], tmp_path: Path):
    everywhere(save)

    def steps(writer: CheckpointWriter) -> None:
        while writer._pending:
            writer.tend()

    assert everywhere(steps) == [None, None]
    assert newest_good(tmp_path).name == "step_00000001"


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("moment", ["writing", "flushing", "publishing"])
def test_an_error_of_one_process_reaches_all_and_older_checkpoints_stay(
    everywhere: Callable[..., list[Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rank: int, moment: str
):
    everywhere(save)
    assert everywhere(finish) == [None, None]
    write = torch.save

    def full(*arguments: Any) -> None:
        path = Path(arguments[-1])
        if f"{rank}.pt" in path.name:
            raise OSError(28, "No space left on device")
        if moment == "writing":
            write(*arguments)

    def lost(path: Path, names: list[str]) -> dict[str, list[int]]:
        found = publishing.describe(path, names)
        if f"zero_{rank}.pt" in names:
            (path / f"zero_{rank}.pt").unlink()
        return found

    with monkeypatch.context() as patch:
        if moment == "writing":
            patch.setattr(saving.torch, "save", full)
        elif moment == "flushing":
            patch.setattr(saving, "flush", full)
        else:
            patch.setattr(saving, "describe", lost)
            patch.setattr(saving, "flush", lambda path: None)
            patch.setattr(publishing, "_VISIBLE", 0.0)
        said = everywhere(lambda writer: (save(writer), finish(writer)))
    assert said[0] == said[1]
    assert "checkpoint step_00000002 could not be written" in said[0]
    assert ("is that a shared folder?" if moment == "publishing" else "No space left on device") in said[0]
    assert [path.name for path in tmp_path.glob("step_*")] == ["step_00000001"]
    assert everywhere(lambda writer: (save(writer), finish(writer))) == [(None, None)] * 2  # once there is space again
    assert newest_good(tmp_path).name == "step_00000003"


def test_a_run_whose_others_are_gone_waits_for_itself_only(everywhere: Callable[..., list[Any]], tmp_path: Path):
    everywhere(save)

    def leave(writer: CheckpointWriter) -> None:
        if writer._engine.process.is_first:
            writer.close()

    everywhere(leave)
    with suppress(InputError):
        assert newest_good(tmp_path) is None
