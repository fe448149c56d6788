"""Signals inside one process, and the message about lost processes."""

import os
import signal
import threading
import time

import pytest
import torch
import torch.distributed as dist

from openrayzer.machine.distributed import Process
from openrayzer.training.faults import interruption
from openrayzer.training.faults.exits import lost_process
from openrayzer.training.faults.interruption import SIGNALS, Interruption

ALONE = Process(rank=0, local_rank=0, world_size=1, device=torch.device("cpu"))


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_is_noted_and_the_handlers_are_put_back(number: signal.Signals):
    before = {one: signal.getsignal(one) for one in SIGNALS}
    with Interruption() as stopping:
        assert stopping.agreed(ALONE) == 0
        os.kill(os.getpid(), number)
        time.sleep(0.05)
        assert stopping.agreed(ALONE) == number
    assert {one: signal.getsignal(one) for one in SIGNALS} == before
    assert signal.set_wakeup_fd(-1) == -1


def test_launchers_that_repeat_the_first_ctrl_c_are_not_a_second_one(monkeypatch):
    monkeypatch.setattr(interruption, "REPEATED", 30.0)
    left: list[int] = []
    with Interruption(leave=left.append) as stopping:
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.05)
        assert stopping.agreed(ALONE) == signal.SIGINT
    assert left == []


def test_a_second_ctrl_c_leaves_while_the_main_thread_is_busy(monkeypatch):
    monkeypatch.setattr(interruption, "REPEATED", 0.05)
    left = threading.Event()
    codes: list[int] = []

    def leave(code: int) -> None:
        codes.append(code)
        left.set()

    with Interruption(leave=leave):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.2)
        os.kill(os.getpid(), signal.SIGINT)
        assert left.wait(10)
    assert codes[0] == 130


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("[gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:1234"),
        RuntimeError(
            "[gloo/transport/tcp/pair.cc:545] Read error [127.0.0.1]:1: Connection reset by peer. More\nlines"
        ),
        dist.DistBackendError("NCCL error in: remote process exited or there was a network error"),
        dist.DistNetworkError("Failed to recv"),
    ],
)
def test_errors_of_lost_processes_are_recognised(error: RuntimeError):
    assert "another process of this run has ended" in lost_process(error)
    assert "\n" not in lost_process(error)


@pytest.mark.parametrize(
    "error", [RuntimeError("CUDA out of memory"), ValueError("Connection closed by peer"), OSError(5)]
)
def test_other_errors_keep_their_traceback(error: Exception):
    assert lost_process(error) == ""
