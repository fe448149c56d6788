"""SIGINT, SIGTERM and SIGUSR1: finish the step, write a checkpoint, exit.

SLURM can send SIGUSR1 some minutes before a job's time is over (``--signal``). A second Ctrl-C ends the process at
once, even while it waits inside a collective operation, where Python's own handlers do not run.
"""

import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

from openrayzer.machine.distributed import Process
from openrayzer.training.faults.exits import leave_now

LOG = logging.getLogger(__name__)
REPEATED = 2.0
"""Seconds in which another Ctrl-C is ignored, because launchers repeat the first one by themselves."""
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


class Interruption:
    """Notes signals while its ``with`` block runs. Enter it in the main thread.

    Args:
        leave: ends the process at once; tests pass their own.
    """

    def __init__(self, *, leave: Callable[[int], object] = os._exit) -> None:
        self._number, self._owner, self._leave = 0, os.getpid(), leave
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Interruption":
        self._before = {number: signal.signal(number, self._note) for number in SIGNALS}
        heard, told = socket.socketpair()
        told.setblocking(False)
        self._sockets, self._fd_before = (heard, told), signal.set_wakeup_fd(told.fileno(), warn_on_full_buffer=False)
        threading.Thread(target=self._listen, args=(heard,), name="interruption", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._fd_before)
        heard, told = self._sockets
        heard.shutdown(socket.SHUT_RDWR)  # wakes the thread
        told.close()

    def agreed(self, process: Process) -> int:
        """The signal that any process has received; 0 if none has. All processes get the same answer."""
        return process.largest(self._number)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._owner:
            return  # a loading process, which must go on until the step is finished
        if self._number == 0:
            self._number = number
            LOG.warning("%s: finishing this step, then a checkpoint", signal.Signals(number).name)

    def _listen(self, heard: socket.socket) -> None:
        """Runs in a thread of its own, so it notices signals while the main thread is inside a long call."""
        first = 0.0
        with heard:
            while numbers := heard.recv(64):
                if signal.SIGINT not in numbers:
                    continue
                now = time.monotonic()
                if first and now - first > REPEATED:
                    LOG.warning("second Ctrl-C: leaving at once, without a checkpoint")
                    leave_now(128 + signal.SIGINT, leave=self._leave)
                first = first or now
