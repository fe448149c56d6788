"""SIGINT and SIGTERM: finish the step, write a checkpoint, go."""

import logging
import os
import signal
import time
from types import FrameType, TracebackType
from typing import Any

from openrayzer.training.distributed import Process

LOG = logging.getLogger(__name__)
PATIENCE = 2.0
"""Seconds after which another Ctrl-C means it: launchers repeat the first one by themselves."""


class Interruption:
    """Notes signals while its ``with`` block runs."""

    def __init__(self) -> None:
        self._number, self._when, self._owner = 0, 0.0, os.getpid()
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Interruption":
        self._before = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def agreed(self, process: Process) -> int:
        """The signal that any of the processes got, 0 if none did; all get the same answer."""
        return process.largest(self._number)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._owner:
            return  # a loading process, which must live until the step is finished
        if self._number == 0:
            self._number, self._when = number, time.monotonic()
            LOG.warning("%s: finishing this step, then a checkpoint", signal.Signals(number).name)
        elif number == signal.SIGINT and time.monotonic() - self._when > PATIENCE:
            raise KeyboardInterrupt
