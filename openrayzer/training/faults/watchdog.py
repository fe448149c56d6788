"""The watchdog: a run in which nothing moves ends, with the stack of every process, instead of burning GPU hours.

In a collective operation all processes wait for the slowest, so a stall is one of the whole run: a thread of every
process watches its own main thread, and what they see is put together before any of them calls it a hang. Each phase
has its own patience: data may be slow, an evaluation may be long. A process that has ended is noticed at once.
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
PATIENCE = {STEP: 1, DATA: 4, FIRST_STEP: 6, PICTURE: 2, CHECKPOINT: 6, EVALUATION: 12}
"""How many times ``minutes`` a phase may last; the first step may compile, and the others may wait for storage."""
_ALARM = "alarm"
_SILENT = 60.0  # seconds without a word of a process's watchdog, after which that process counts as gone
_MEETING = 20.0  # seconds in which all processes write down their stacks
_GRACE = 10.0  # seconds for the main thread to get an error of its own after another process has ended


@dataclass(frozen=True)
class Sight:
    """What the watchdog of one process sees.

    Attributes:
        phase: what its main thread does.
        step: finished micro-batches.
        seconds: since the last movement.
        spoken: the process's clock, to tell watchdogs that have fallen silent.
    """

    phase: str
    step: int
    seconds: float
    spoken: int

    def overdue(self, minutes: float) -> bool:
        """Whether its patience is at an end."""
        return self.seconds > PATIENCE[self.phase] * 60 * minutes

    def packed(self) -> str:
        """As a line of text."""
        return f"{self.phase}|{self.step}|{self.seconds:.1f}|{self.spoken}"

    @classmethod
    def unpacked(cls, text: str) -> "Sight":
        """From a line of text."""
        phase, step, seconds, spoken = text.split("|")
        return cls(phase, int(step), float(seconds), int(spoken))


class Watchdog:
    """Watches while its ``with`` block runs; all processes of a run enter it together.

    Args:
        process: this process.
        folder: gets ``rank_<N>.txt`` with the stacks of all threads, and nothing if nothing hangs.
        minutes: how long an optimizer step may take, see ``PATIENCE`` for the other phases; 0 never barks.
        grace: seconds for the main thread to notice the end of another process by itself. With Gloo it gets an
            error; in NCCL it keeps waiting, and PyTorch would abort it after a minute (exit code 134).
        leave: ends the process at once; a parameter for tests.
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
                self._lifeline = Lifeline(self.process, lost=self._miss)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        if self._lifeline is not None and (error is None or isinstance(error, TrainingStopped)):
            self._lifeline.say_goodbye()  # other errors may concern this process only, and the rest must notice its end

    def watched(self, batches: Iterator[T]) -> Iterator[T]:
        """The same batches; waiting for one is the phase ``data``, and what follows it is ``step``."""
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

    def _see(self, spoken: int) -> Sight:
        return Sight(self._phase, self._count, time.monotonic() - self._since, spoken)

    def _watch(self, board: "_Board") -> None:
        spoken, last = 0, time.monotonic()
        while not self._over.wait(self._poll):
            now = time.monotonic()
            if now - last > 10 * self._poll:  # the process was stopped, as by Ctrl-Z, and goes on: so does its patience
                self._since += now - last
            spoken, last = spoken + 1, now
            try:
                board.write(self._see(spoken))
                if not board.alarm() and not self._see(spoken).overdue(self.minutes):
                    continue
                sights = board.read()
                hung = board.alarm() or is_hang(sights, self.minutes, board.silent(sights))
            except (RuntimeError, OSError) as error:  # rank 0 is gone, and the board with it
                if not self._see(spoken).overdue(self.minutes):
                    continue
                sights, hung = {self.process.rank: self._see(spoken)}, True
                LOG.warning("rank %d: the other watchdogs do not answer: %s", self.process.rank, error)
            if hung and not self._over.is_set():
                self._bark(board, sights)
                return

    def _miss(self, rank: int) -> None:
        if not self._over.wait(self._grace):
            LOG.error("%s", missing_process(f"rank {rank} closed its connection without a goodbye"))
            leave_now(HUNG, leave=self._leave)

    def _bark(self, board: "_Board", sights: dict[int, Sight]) -> None:
        with suppress(RuntimeError, OSError):
            board.raise_alarm()
        in_time(self._report, sights)
        with suppress(RuntimeError, OSError):
            board.meet()
        leave_now(HUNG, leave=self._leave)

    def _report(self, sights: dict[int, Sight]) -> None:
        self._dump()
        if self.process.is_first or self.process.world_size > 1 == len(sights):
            LOG.error("%s", self._message(sights))

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

    def _message(self, sights: dict[int, Sight]) -> str:
        where: dict[str, list[int]] = {}
        for rank, sight in sorted(sights.items()):
            where.setdefault(f"{sight.phase} after {sight.step} micro-batches", []).append(rank)
        ranks = "; ".join(f"rank(s) {_ranges(numbers)} in {place}" for place, numbers in where.items())
        missing = sorted(set(range(self.process.world_size)) - sights.keys())
        gone = f"; no word from rank(s) {_ranges(missing)}, look at their machines first" if missing else ""
        seconds = max(sight.seconds for sight in sights.values())
        return (
            f"the run hangs: nothing has moved for {seconds / 60:.1f} minutes; {ranks}{gone}. The stacks of all "
            f"processes are in {self.folder}: the process that stands elsewhere than the others holds them up. All "
            "end with exit code 3; the same command goes on from the last checkpoint. If this was no hang but a slow "
            "step, raise train.watchdog_minutes (0 turns the watchdog off)"
        )


def is_hang(sights: dict[int, Sight], minutes: float, silent: frozenset[int] = frozenset()) -> bool:
    """Whether the run hangs: no process that still speaks is in a phase whose patience lasts longer."""
    return all(sight.overdue(minutes) for rank, sight in sights.items() if rank not in silent)


class _Board:
    """Where the watchdogs of all processes write what they see; nothing but memory when alone."""

    def __init__(self, process: Process) -> None:
        self._rank, self._world = process.rank, process.world_size
        self._heard: dict[int, tuple[int, float]] = {}
        self._alone: Sight | None = None
        self._store: dist.TCPStore | None = None
        if self._world == 1:
            return
        host, patience = os.environ.get("MASTER_ADDR", "127.0.0.1"), timedelta(seconds=30)
        if process.is_first:
            self._store = dist.TCPStore(host, 0, is_master=True, wait_for_workers=False, timeout=patience)
        port = process.by_first(lambda: self._store.port if self._store else 0)
        if self._store is None:
            self._store = dist.TCPStore(host, port, is_master=False, timeout=patience)

    def write(self, sight: Sight) -> None:
        if self._store is None:
            self._alone = sight
        else:
            self._store.set(str(self._rank), sight.packed())

    def read(self) -> dict[int, Sight]:
        """What each process saw, as far as it has said anything."""
        if self._store is None:
            return {0: self._alone} if self._alone else {}
        names = {rank: str(rank) for rank in range(self._world)}
        if not self._store.check(list(names.values())):
            names = {rank: name for rank, name in names.items() if self._store.check([name])}
        texts = self._store.multi_get(list(names.values()))
        return {rank: Sight.unpacked(text.decode()) for rank, text in zip(names, texts, strict=True)}

    def silent(self, sights: dict[int, Sight]) -> frozenset[int]:
        """Processes whose watchdogs have not spoken for a while."""
        now = time.monotonic()
        for rank, sight in sights.items():
            if self._heard.get(rank, (-1, 0.0))[0] != sight.spoken:
                self._heard[rank] = (sight.spoken, now)
        return frozenset(rank for rank in sights if now - self._heard[rank][1] > _SILENT)

    def alarm(self) -> bool:
        return self._store is not None and self._store.check([_ALARM])

    def raise_alarm(self) -> None:
        if self._store is not None:
            self._store.set(_ALARM, str(self._rank))

    def meet(self) -> None:
        """Wait a little until all have written their stacks: the first to leave is how a launcher ends the others."""
        if self._store is None:
            return
        self._store.add("dumped", 1)
        end = time.monotonic() + _MEETING
        while self._store.add("dumped", 0) < self._world and time.monotonic() < end:
            time.sleep(0.2)
        if self._rank == 0:
            time.sleep(1)  # the others still have to hear it from the store of this process


def _ranges(numbers: list[int]) -> str:
    """``0-6, 8``."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][1] + 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in parts)
