"""The watchdog ends a run that hangs and writes the stacks of all its processes.

In a collective operation all processes wait for the slowest one, so a single process cannot tell a hang from waiting.
In every process a thread watches the main thread and publishes its progress. The run hangs if every process exceeds the
time limit of its own phase; loading data or an evaluation may take longer than a step. The watchdog notices at once
when a process has ended.
"""

import faulthandler
import logging
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import TypeVar

import torch.distributed as dist

from openrayzer.machine.distributed import Process
from openrayzer.training.engine import TrainingStopped
from openrayzer.training.faults.exits import in_time, leave_now, missing_process
from openrayzer.training.faults.lifeline import Lifeline

LOG = logging.getLogger(__name__)
T = TypeVar("T")
HUNG = 3
"""Exit code, on every process."""
STEP, DATA, FIRST_STEP, EVALUATION, PICTURE, CHECKPOINT = (
    "step", "data", "first step", "evaluation", "picture", "checkpoint",
)  # fmt: skip
LIMITS = {STEP: 1, DATA: 4, FIRST_STEP: 6, PICTURE: 2, CHECKPOINT: 6, EVALUATION: 12}
"""Time limit of each phase in units of ``minutes``. The first step may compile; the others may wait for storage."""
_ALARM = "alarm"
_SILENT = 60.0
"""Seconds without an update from a process's watchdog, after which the process counts as gone."""
_STACKS = 20.0
"""Seconds in which all processes write their stacks."""
_GRACE = 10.0
"""Seconds for the main thread to receive an error of its own after another process has ended."""


@dataclass(frozen=True)
class Progress:
    """The progress of one process.

    Attributes:
        phase: the present work of the main thread.
        step: number of micro-batches so far.
        seconds: time since the phase began.
        updates: number of updates of this process's watchdog; it stops growing when the process is gone.
    """

    phase: str
    step: int
    seconds: float
    updates: int

    def overdue(self, minutes: float) -> bool:
        """Whether the phase exceeds its time limit."""
        return self.seconds > LIMITS[self.phase] * 60 * minutes

    def packed(self) -> str:
        """This progress as a line of text."""
        return f"{self.phase}|{self.step}|{self.seconds:.1f}|{self.updates}"

    @classmethod
    def unpacked(cls, text: str) -> "Progress":
        """The progress that ``packed`` wrote."""
        phase, step, seconds, updates = text.split("|")
        return cls(phase, int(step), float(seconds), int(updates))


class Watchdog:
    """Watches this process while its ``with`` block runs. All processes of a run enter it together.

    Args:
        process: this process.
        folder: receives ``rank_<N>.txt`` with the stacks of all threads, only if the run hangs.
        minutes: time limit of an optimizer step; see ``LIMITS`` for the other phases. 0 turns the watchdog off.
        grace: seconds for the main thread to notice by itself that another process has ended. With Gloo it receives an
            error; in NCCL it keeps waiting, and PyTorch would abort it after a minute (exit code 134).
        leave: ends the process at once; tests pass another function.
    """

    def __init__(
        self,
        process: Process,
        *,
        folder: Path,
        minutes: float,
        grace: float = _GRACE,
        leave: Callable[[int], object] = os._exit,
    ) -> None:
        self.process, self.folder, self.minutes, self._leave = process, folder, minutes, leave
        self._grace = grace
        self._poll = min(5.0, 6 * minutes)  # seconds
        self._phase, self._since, self._count = FIRST_STEP, time.monotonic(), 0
        self._over = threading.Event()
        self._board: _Board | None = None
        self._lifeline: Lifeline | None = None

    def __enter__(self) -> "Watchdog":
        if self.minutes:
            self._board = _Board(self.process)
            self._at(FIRST_STEP)
            threading.Thread(target=self._watch, args=(self._board,), name="watchdog", daemon=True).start()
            if self.process.world_size > 1:
                self._lifeline = Lifeline(self.process, lost=self._end_after_loss)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        if self._lifeline is not None and (error is None or isinstance(error, TrainingStopped)):
            self._lifeline.say_goodbye()  # after other errors the rest of the run must notice that this process ends

    def watched(self, batches: Iterator[T]) -> Iterator[T]:
        """The same batches. Waiting for a batch is the phase ``data``; the time until the next one is ``step``."""
        while True:
            after = STEP if self._count else FIRST_STEP
            self._at(DATA)
            try:
                batch = next(batches)
            except StopIteration:
                return
            self._count += 1
            self._at(after)
            yield batch

    @contextmanager
    def during(self, phase: str) -> Iterator[None]:
        """Watch the ``with`` block as a phase of its own."""
        before = self._phase
        self._at(phase)
        try:
            yield
        finally:
            self._at(before)

    def _at(self, phase: str) -> None:
        self._phase, self._since = phase, time.monotonic()

    def _progress(self, updates: int) -> Progress:
        return Progress(self._phase, self._count, time.monotonic() - self._since, updates)

    def _watch(self, board: "_Board") -> None:
        updates, last = 0, time.monotonic()
        while not self._over.wait(self._poll):
            now = time.monotonic()
            if now - last > 10 * self._poll:  # the process was stopped, e.g. by Ctrl-Z: that time does not count
                self._since += now - last
            updates, last = updates + 1, now
            try:
                board.write(self._progress(updates))
                if not board.alarm() and not self._progress(updates).overdue(self.minutes):
                    continue
                progress = board.read()
                hung = board.alarm() or is_hang(progress, self.minutes, board.silent(progress))
            except (RuntimeError, OSError) as error:  # rank 0 is gone, and the board is gone with it
                if not self._progress(updates).overdue(self.minutes):
                    continue
                progress, hung = {self.process.rank: self._progress(updates)}, True
                LOG.warning("rank %d: the other watchdogs do not answer: %s", self.process.rank, error)
            if hung and not self._over.is_set():
                self._end_run(board, progress)
                return

    def _end_after_loss(self, rank: int) -> None:
        if not self._over.wait(self._grace):
            LOG.error("%s", missing_process(f"rank {rank} closed its connection before the end of the run"))
            leave_now(HUNG, leave=self._leave)

    def _end_run(self, board: "_Board", progress: dict[int, Progress]) -> None:
        with suppress(RuntimeError, OSError):
            board.raise_alarm()
        in_time(self._report, progress)
        with suppress(RuntimeError, OSError):
            board.wait_for_stacks()
        leave_now(HUNG, leave=self._leave)

    def _report(self, progress: dict[int, Progress]) -> None:
        self._dump()
        if self.process.is_first or self.process.world_size > 1 == len(progress):
            LOG.error("%s", self._message(progress))

    def _dump(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with (self.folder / f"rank_{self.process.rank}.txt").open("w", encoding="utf-8") as file:
                file.write(f"{socket.gethostname()}, process {os.getpid()}, phase {self._phase}\n")
                file.flush()
                faulthandler.dump_traceback(file, all_threads=True)
        except OSError as error:
            LOG.error("rank %d: its stacks cannot be written to %s: %s", self.process.rank, self.folder, error)
            faulthandler.dump_traceback(sys.__stderr__ or 2, all_threads=True)

    def _message(self, progress: dict[int, Progress]) -> str:
        where: dict[str, list[int]] = {}
        for rank, one in sorted(progress.items()):
            where.setdefault(f"{one.phase} after {one.step} micro-batches", []).append(rank)
        ranks = "; ".join(f"rank(s) {_ranges(numbers)} in {place}" for place, numbers in where.items())
        missing = sorted(set(range(self.process.world_size)) - progress.keys())
        gone = f"; rank(s) {_ranges(missing)} do not report, check their machines first" if missing else ""
        seconds = max(one.seconds for one in progress.values())
        return (
            f"the run hangs: nothing has moved for {seconds / 60:.1f} minutes; {ranks}{gone}. The stacks of all "
            f"processes are in {self.folder}: compare them, the process with a different stack blocks the others. "
            "All processes end with exit code 3; the same command goes on from the last checkpoint. If this was only "
            "a slow step, raise train.watchdog_minutes (0 turns the watchdog off)"
        )


def is_hang(progress: dict[int, Progress], minutes: float, silent: frozenset[int] = frozenset()) -> bool:
    """Whether the run hangs: every process that is not silent exceeds the time limit of its phase."""
    return all(one.overdue(minutes) for rank, one in progress.items() if rank not in silent)


class _Board:
    """The progress of all processes, shared through a TCP store of rank 0. A single process needs no store."""

    def __init__(self, process: Process) -> None:
        self._rank, self._world = process.rank, process.world_size
        self._seen: dict[int, tuple[int, float]] = {}
        self._alone: Progress | None = None
        self._store: dist.TCPStore | None = None
        if self._world == 1:
            return
        host, timeout = os.environ.get("MASTER_ADDR", "127.0.0.1"), timedelta(seconds=30)
        if process.is_first:
            self._store = dist.TCPStore(host, 0, is_master=True, wait_for_workers=False, timeout=timeout)
        port = process.by_first(lambda: self._store.port if self._store else 0)
        if self._store is None:
            self._store = dist.TCPStore(host, port, is_master=False, timeout=timeout)

    def write(self, one: Progress) -> None:
        if self._store is None:
            self._alone = one
        else:
            self._store.set(str(self._rank), one.packed())

    def read(self) -> dict[int, Progress]:
        """The last progress of each process that has written any."""
        if self._store is None:
            return {0: self._alone} if self._alone else {}
        names = {rank: str(rank) for rank in range(self._world)}
        if not self._store.check(list(names.values())):
            names = {rank: name for rank, name in names.items() if self._store.check([name])}
        texts = self._store.multi_get(list(names.values()))
        return {rank: Progress.unpacked(text.decode()) for rank, text in zip(names, texts, strict=True)}

    def silent(self, progress: dict[int, Progress]) -> frozenset[int]:
        """Ranks whose watchdogs have not written an update for a while."""
        now = time.monotonic()
        for rank, one in progress.items():
            if self._seen.get(rank, (-1, 0.0))[0] != one.updates:
                self._seen[rank] = (one.updates, now)
        return frozenset(rank for rank in progress if now - self._seen[rank][1] > _SILENT)

    def alarm(self) -> bool:
        return self._store is not None and self._store.check([_ALARM])

    def raise_alarm(self) -> None:
        if self._store is not None:
            self._store.set(_ALARM, str(self._rank))

    def wait_for_stacks(self) -> None:
        """Wait until all processes have written their stacks. A launcher ends the others when the first one exits."""
        if self._store is None:
            return
        self._store.add("dumped", 1)
        end = time.monotonic() + _STACKS
        while self._store.add("dumped", 0) < self._world and time.monotonic() < end:
            time.sleep(0.2)
        if self._rank == 0:
            time.sleep(1)  # the others still have to read it from the store of this process


def _ranges(numbers: list[int]) -> str:
    """``0-6, 8``."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][1] + 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in parts)
