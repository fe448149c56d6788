"""The watchdog: the runs that it ends, the runs that it lets go on, and the files that it writes."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from openrayzer.machine.distributed import Process
from openrayzer.training.faults import watchdog
from openrayzer.training.faults.watchdog import CHECKPOINT, DATA, EVALUATION, STEP, Progress, Watchdog, is_hang

ALONE = Process(rank=0, local_rank=0, world_size=1, device=torch.device("cpu"))
MINUTE = 60.0


def at(phase: str, minutes: float) -> Progress:
    return Progress(phase, step=5, seconds=float(minutes * MINUTE), updates=1)


def test_a_run_hangs_if_all_ranks_exceed_their_limits():
    assert is_hang({0: at(STEP, 11.0), 1: at(STEP, 11.0)}, 10.0)
    assert not is_hang({0: at(STEP, 11.0), 1: at(STEP, 9.0)}, 10.0)


@pytest.mark.parametrize(("phase", "limit"), [(DATA, 40.0), (EVALUATION, 120.0), (CHECKPOINT, 60.0)])
def test_ranks_wait_for_a_rank_in_a_phase_with_a_higher_limit(phase: str, limit: float):
    assert not is_hang({0: at(STEP, 30.0), 1: at(phase, limit - 1)}, 10.0)
    assert is_hang({0: at(STEP, 30.0), 1: at(phase, limit + 1)}, 10.0)


def test_a_silent_rank_does_not_prevent_a_hang():
    progress = {0: at(STEP, 11.0), 1: at(EVALUATION, 1.0)}
    assert is_hang(progress, 10.0, frozenset({1}))


def test_progress_is_read_as_it_was_written():
    one = Progress("first step", 3, 12.5, 7)
    assert Progress.unpacked(one.packed()) == one


class Door:
    """Records the exit code of a process instead of ending it."""

    def __init__(self) -> None:
        self.code: int | None = None
        self.left = threading.Event()

    def __call__(self, code: int) -> None:
        self.code = code
        self.left.set()


def endless() -> Iterator[int]:
    yield from range(1_000_000)


@pytest.fixture
def minutes(monkeypatch: pytest.MonkeyPatch) -> float:
    """Limits of one second for a step, four for data and twenty for an evaluation; the step's limit in minutes."""
    monkeypatch.setattr(watchdog, "LIMITS", dict.fromkeys(watchdog.LIMITS, 1) | {DATA: 4, EVALUATION: 20})
    return 1.0 / 60


def test_a_step_that_never_ends_ends_the_process_with_all_stacks(tmp_path: Path, minutes: float, caplog):
    door = Door()
    with Watchdog(ALONE, folder=tmp_path / "hang", minutes=minutes, leave=door) as dog:
        batches = dog.watched(endless())
        next(batches)
        next(batches)
        assert door.left.wait(20)
    assert door.code == 3
    stacks = (tmp_path / "hang/rank_0.txt").read_text()
    assert "test_a_step_that_never_ends" in stacks
    assert "Thread" in stacks
    assert "the run hangs" in caplog.text
    assert "rank(s) 0 in step after 2 micro-batches" in caplog.text
    assert "train.watchdog_minutes" in caplog.text


def test_slow_data_and_a_slow_evaluation_are_no_hang(tmp_path: Path, minutes: float):
    door = Door()

    def slow() -> Iterator[int]:
        for number in endless():
            time.sleep(1.3)
            yield number

    with Watchdog(ALONE, folder=tmp_path / "hang", minutes=minutes, leave=door) as dog:
        batches = dog.watched(slow())
        for _ in range(2):
            next(batches)
        with dog.during(EVALUATION):
            time.sleep(1.5)
        time.sleep(0.1)
    assert not door.left.is_set()
    assert not (tmp_path / "hang").exists()


def test_a_stopped_process_that_goes_on_is_no_hang(tmp_path: Path, minutes: float, monkeypatch):
    door, real, jump = Door(), time.monotonic, [0.0]
    monkeypatch.setattr(watchdog.time, "monotonic", lambda: real() + jump[0])
    with Watchdog(ALONE, folder=tmp_path / "hang", minutes=minutes, leave=door) as dog:
        batches = dog.watched(endless())
        for _ in range(8):
            next(batches)
            time.sleep(0.05)
        jump[0] = 3600.0  # an hour passes between two looks
        for _ in range(8):
            time.sleep(0.05)
            next(batches)
    assert not door.left.is_set()


def test_zero_minutes_turn_the_watchdog_off(tmp_path: Path):
    before = threading.active_count()
    with Watchdog(ALONE, folder=tmp_path, minutes=0.0):
        assert threading.active_count() == before


def test_a_hung_process_ends_even_if_its_stacks_cannot_be_written(tmp_path: Path, minutes: float, monkeypatch, capfd):
    door = Door()
    (tmp_path / "hang").write_text("a file")
    with Watchdog(ALONE, folder=tmp_path / "hang", minutes=minutes, leave=door):
        assert door.left.wait(20)
    assert door.code == 3
