"""The connections through which processes notice that another one has ended."""

import multiprocessing
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch

from openrayzer.machine.distributed import Process
from openrayzer.training.engine import TrainingStopped
from openrayzer.training.faults import lifeline, watchdog
from openrayzer.training.faults.lifeline import Lifeline
from openrayzer.training.faults.watchdog import Watchdog

PEER = """
import socket, struct, sys, time
line = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
line.sendall(struct.pack("!i", 1))
print("here", flush=True)
time.sleep(100)
"""
"""Code of a process that connects as rank 1."""


@dataclass(frozen=True)
class Rank(Process):
    """A process of a run inside this process. Rank 0 publishes the port."""

    said: Future = field(default_factory=Future)

    def by_first(self, function: Callable[[], object]) -> object:
        if self.is_first:
            self.said.set_result(function())
        return self.said.result(10)


class Losses:
    """Ranks that were reported as lost."""

    def __init__(self) -> None:
        self.ranks: list[int] = []
        self.heard = threading.Event()

    def __call__(self, rank: int) -> None:
        self.ranks.append(rank)
        self.heard.set()


def ranks(count: int) -> list[Rank]:
    said: Future = Future()
    return [Rank(rank, rank, count, torch.device("cpu"), said=said) for rank in range(count)]


@pytest.fixture
def run() -> Iterator[tuple[list[Lifeline], list[Losses]]]:
    """Three processes, connected."""
    losses = [Losses() for _ in range(3)]
    with ThreadPoolExecutor(3) as pool:
        made = [pool.submit(Lifeline, rank, lost=loss) for rank, loss in zip(ranks(3), losses, strict=True)]
        lifelines = [one.result(10) for one in made]
    yield lifelines, losses
    for one in lifelines:
        one.close()


@pytest.mark.parametrize("victim", [0, 1, 2])
def test_all_processes_notice_which_one_has_ended(run: tuple[list[Lifeline], list[Losses]], victim: int):
    lifelines, losses = run
    lifelines[victim].close()
    for rank, loss in enumerate(losses):
        if rank != victim:
            assert loss.heard.wait(5)
            assert loss.ranks == [victim]
    assert losses[victim].ranks == []


def test_after_a_goodbye_the_other_processes_are_still_watched(run: tuple[list[Lifeline], list[Losses]]):
    lifelines, losses = run
    lifelines[1].say_goodbye()
    lifelines[1].close()
    assert not losses[0].heard.wait(1)
    assert not losses[2].heard.is_set()
    lifelines[2].close()
    assert losses[0].heard.wait(5)
    assert losses[0].ranks == [2]


def test_when_the_first_process_says_goodbye_nobody_is_lost(run: tuple[list[Lifeline], list[Losses]]):
    lifelines, losses = run
    lifelines[0].say_goodbye()
    time.sleep(0.7)  # its thread has ended
    lifelines[0].close()
    assert not any(loss.heard.wait(0.5) for loss in losses)


def test_processes_that_close_on_the_first_goodbye_are_not_lost(
    run: tuple[list[Lifeline], list[Losses]], monkeypatch: pytest.MonkeyPatch
):
    lifelines, losses = run
    send = lifelines[0]._send_to_all

    def slowly(message: int) -> None:
        send(message)
        if message < 0:  # a goodbye
            time.sleep(0.5)

    monkeypatch.setattr(lifelines[0], "_send_to_all", slowly)
    lifelines[0].say_goodbye()
    assert [loss.ranks for loss in losses] == [[], [], []]


def test_a_lifeline_may_close_before_its_thread_has_begun(monkeypatch: pytest.MonkeyPatch):
    held: list[threading.Thread] = []
    monkeypatch.setattr(threading.Thread, "start", lambda thread: held.append(thread))
    near, far = socket.socketpair()
    monkeypatch.setattr(lifeline, "_connect", lambda port, rank: near)
    process, loss = ranks(2)[1], Losses()
    process.said.set_result(0)
    made = Lifeline(process, lost=loss)
    made.close()
    held[0].run()
    far.close()
    assert loss.ranks == []


def test_copies_of_a_process_do_not_keep_its_connections_open(run: tuple[list[Lifeline], list[Losses]]):
    lifelines, losses = run
    copy = multiprocessing.get_context("fork").Process(target=time.sleep, args=(30,))
    copy.start()
    try:
        lifelines[1].close()
        assert losses[0].heard.wait(5)
    finally:
        copy.kill()
        copy.join()


class Door:
    """Records the exit code of a process instead of ending it."""

    def __init__(self) -> None:
        self.codes: list[int] = []
        self.left = threading.Event()

    def __call__(self, code: int) -> None:
        self.codes.append(code)
        self.left.set()


@pytest.fixture
def first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Watchdog, Door, Rank]]:
    """The watchdog of rank 0 of two, with the board in memory."""

    class Alone(watchdog._Board):
        def __init__(self, process: Process) -> None:
            super().__init__(ALONE)

    monkeypatch.setattr(watchdog, "_Board", Alone)
    door, (rank, _) = Door(), ranks(2)
    dog = Watchdog(rank, folder=tmp_path / "hang", minutes=10.0, grace=0.3, leave=door)
    yield dog, door, rank
    assert dog._lifeline is not None
    dog._lifeline.close()


ALONE = Process(rank=0, local_rank=0, world_size=1, device=torch.device("cpu"))


@pytest.fixture
def peer(first: tuple[Watchdog, Door, Rank]) -> Iterator[Future]:
    """A process that is connected as rank 1."""

    def start() -> subprocess.Popen:
        command = [sys.executable, "-c", PEER, str(first[2].said.result(10))]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stdout.readline() == "here\n"
        return process

    with ThreadPoolExecutor(1) as pool:
        started = pool.submit(start)
        yield started
        started.result().kill()
        started.result().communicate()


def test_a_rank_that_waits_for_ever_for_a_killed_one_ends_with_3(first, peer, caplog):
    dog, door, _ = first
    with dog:
        peer.result(10).send_signal(signal.SIGKILL)
        assert door.left.wait(10)  # as a wait inside NCCL, this one comes to no end by itself
    assert door.codes == [3]
    assert "another process of this run has ended" in caplog.text
    assert "rank 1" in caplog.text
    assert "the run hangs" not in caplog.text


def test_a_stopped_rank_is_not_lost(first, peer):
    dog, door, _ = first
    with dog:
        peer.result(10).send_signal(signal.SIGSTOP)
        assert not door.left.wait(1.5)
        peer.result().send_signal(signal.SIGCONT)
        assert not door.left.wait(0.5)


def test_a_rank_that_notices_by_itself_is_not_cut_short(first, peer):
    dog, door, _ = first
    with suppress(RuntimeError), dog:
        peer.result(10).send_signal(signal.SIGKILL)
        time.sleep(0.1)
        raise RuntimeError("Connection closed by peer")
    assert not door.left.wait(1)


@pytest.mark.parametrize(
    ("error", "goodbye"), [(None, True), (TrainingStopped("all skipped"), True), (MemoryError("this rank only"), False)]
)
def test_processes_that_end_together_say_goodbye(first, error: Exception | None, goodbye: bool):
    dog, _, rank = first

    def join() -> socket.socket:
        line = socket.create_connection(("127.0.0.1", rank.said.result(10)))
        line.sendall(struct.pack("!i", 1))
        line.settimeout(30)
        return line

    with ThreadPoolExecutor(1) as pool:
        joined = pool.submit(join)
        with suppress(TrainingStopped, MemoryError), dog:
            line = joined.result(10)
            if error:
                raise error
        dog._lifeline.close()  # as the end of the process does, so that the stream ends
        with line, line.makefile("rb") as stream:
            assert stream.read() == (struct.pack("!i", -1) if goodbye else b"")


def test_other_connections_to_the_port_are_closed():
    first, second = ranks(2)
    heard = Losses()
    with ThreadPoolExecutor(2) as pool:
        made = pool.submit(Lifeline, first, lost=heard)
        with socket.create_connection(("127.0.0.1", first.said.result(10))) as stranger:
            stranger.sendall(os.urandom(3) + b"\xff")
            assert stranger.recv(4) == b""
        other = pool.submit(Lifeline, second, lost=heard).result(10)
        one = made.result(10)
    assert not heard.heard.is_set()
    one.close()
    other.close()
