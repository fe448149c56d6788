"""Loading processes that are killed, and those that must go."""

import multiprocessing
import os
import signal
import socket
import time
from itertools import islice
from pathlib import Path

import pytest

from openrayzer.data.loading import numbered_batches
from openrayzer.data.loading.numbered_batches import load_batches
from openrayzer.interfaces import InputError


class Deadly:
    """Batch ``number`` is twice its number; the process that loads one of ``deadly`` dies, each time or once."""

    def __init__(self, folder: Path, deadly: tuple[int, ...], *, always: bool = False) -> None:
        self.folder, self.deadly, self.always = folder, deadly, always

    def __call__(self, number: int) -> int:
        if number in self.deadly:
            died = self.folder / str(number)
            if self.always or not died.exists():
                died.touch()
                os.kill(os.getpid(), signal.SIGKILL)
        return 2 * number


def test_a_killed_worker_loses_nothing(tmp_path: Path, caplog):
    batches = load_batches(Deadly(tmp_path, (3, 11)), numbers=range(20), workers=2, prefetch=2)
    assert list(batches) == [2 * number for number in range(20)]
    assert caplog.text.count("its batches are loaded again") == 2


def test_a_killed_worker_loses_no_prefetched_batch(tmp_path: Path, caplog):
    """As on a GPU, where batches are copied ahead: those copied before the death come first."""
    load = Deadly(tmp_path, (3, 11))
    batches = load_batches(load, numbers=range(20), workers=2, prefetch=2, prepare=lambda batch: batch + 1)
    assert list(batches) == [2 * number + 1 for number in range(20)]
    assert caplog.text.count("its batches are loaded again") == 2


def _refused(number: int) -> int:
    raise InputError("no such batch")


@pytest.mark.parametrize("prepare", [None, abs])
def test_an_error_on_its_way_out_holds_no_loading_process(prepare):
    batches = load_batches(_refused, numbers=range(3), workers=1, prefetch=1, prepare=prepare)
    with pytest.raises(InputError) as caught:
        next(batches)
    assert caught.traceback
    assert not multiprocessing.active_children()


@pytest.mark.parametrize(
    ("error", "recovers"),
    [
        (ConnectionResetError(104, "Connection reset by peer"), True),
        (EOFError(), True),
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. "), True),
        (ConnectionResetError("Caught ConnectionResetError in DataLoader worker process 0."), False),
        (RuntimeError("Caught RuntimeError in DataLoader worker process 0."), False),
    ],
)
def test_a_connection_that_ends_is_a_death_and_an_error_of_the_data_is_none(monkeypatch, error, recovers):
    """A process that dies while its batch is read from it ends the connection."""
    passes = []

    def one_pass(load, numbers, *others):
        passes.append(list(numbers))
        yield "first"
        if len(passes) == 1:
            raise error
        yield "second"

    monkeypatch.setattr(numbered_batches, "_one_pass", one_pass)
    batches = load_batches(abs, numbers=range(3), workers=1, prefetch=1)
    if recovers:
        assert list(batches) == ["first", "first", "second"]
        assert passes == [[0, 1, 2], [1, 2]]
    else:
        with pytest.raises(type(error)):
            list(batches)


@pytest.mark.slow
def test_workers_that_always_die_end_the_pass(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(numbered_batches, "MAX_DEATHS", 1)
    batches = load_batches(Deadly(tmp_path, (1,), always=True), numbers=range(4), workers=1, prefetch=1)
    with pytest.raises(RuntimeError, match="DataLoader worker"):
        list(batches)


def _wakeup_descriptor(number: int) -> int:
    return signal.set_wakeup_fd(-1)


def test_a_signal_of_a_worker_is_not_reported_to_the_training_process():
    heard, told = socket.socketpair()
    told.setblocking(False)
    with heard, told:
        before = signal.set_wakeup_fd(told.fileno())
        try:
            assert next(load_batches(_wakeup_descriptor, numbers=range(1), workers=1, prefetch=1)) == -1
        finally:
            signal.set_wakeup_fd(before)


def test_without_workers_it_is_the_same_stream():
    assert list(islice(load_batches(abs, numbers=range(5), workers=0, prefetch=1), 3)) == [0, 1, 2]


def _serve(ready, workers_last: int) -> None:
    numbered_batches.LAST_SECONDS = workers_last
    numbered_batches._start_worker(0)
    ready.set()
    while True:
        time.sleep(0.1)


def test_two_requests_to_end_at_once_end_a_worker_in_the_end():
    """An interpreter that exits sends two and then waits for ever."""
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    worker = context.Process(target=_serve, args=(ready, 1), daemon=True)
    worker.start()
    assert ready.wait(60)
    for _ in range(2):
        worker.terminate()
    worker.join(0.3)
    assert worker.is_alive()  # the step may still need it
    worker.join(60)
    assert worker.exitcode == -signal.SIGALRM
