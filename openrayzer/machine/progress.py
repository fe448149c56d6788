"""Progress of long work on stderr: a bar on a terminal, a line every few seconds elsewhere, nothing on other ranks."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TypeVar

from rich.console import Console
from rich.filesize import decimal
from rich.progress import BarColumn, Progress, Task, TextColumn

from openrayzer.machine.distributed import current_rank

Item = TypeVar("Item")

BYTES = "bytes"
"""The unit that is written as kB, MB or GB."""
_STAGES = "stages"
"""The unit without a rate, because stages take different times."""
_REDRAW = 0.1
"""Shortest time between two drawings of the bar, in seconds."""
_LINES = 10.0
"""Time between two lines where there is no terminal, in seconds. Work that takes less time prints none."""


def with_progress(
    items: Iterable[Item], *, total: int, unit: str, title: str = "", amount: Callable[[Item], int] | None = None
) -> Iterator[Item]:
    """Yield the items and show how many are done.

    Args:
        items: the items.
        total: amount of work of all items.
        unit: unit of the amount, in the plural, e.g. ``rooms``; ``bytes`` are written as kB, MB or GB.
        title: name of the work.
        amount: work of one item, counted when the next item is asked for. Default: 1 for each item.
    """
    with ProgressCounter(total=total, unit=unit, title=title) as counter:
        for item in items:
            yield item
            counter.advance(amount(item) if amount else 1)


@contextmanager
def stages_of(title: str, *, total: int) -> Iterator[Callable[[str], None]]:
    """Show the stages of a job whose parts cannot be counted, such as reading one large file.

    Yields a function that begins the next stage; its argument describes the stage.

    Args:
        title: name of the job.
        total: number of stages.
    """
    with ProgressCounter(total=total, unit=_STAGES, title=title) as counter:
        yield counter.next_stage
        counter.next_stage()


class ProgressCounter:
    """A count of the work done, shown with its rate and the time left. Use it in a ``with`` block.

    Rank 0 draws a bar if stderr is a terminal, and otherwise prints a line every ten seconds. Inside the block of
    another counter that draws a bar, a counter is silent. No thread runs, so processes may be forked in the block.

    Args:
        total: amount of work.
        unit: unit of the amount, in the plural.
        title: name of the work.
        done: amount that was done earlier; it does not count for the rate.
        lines: whether lines are printed where there is no terminal.
        clock: the time in seconds.

    Attributes:
        drawn: whether a bar is drawn.
        note: text behind the numbers.
    """

    def __init__(
        self,
        *,
        total: int,
        unit: str,
        title: str = "",
        done: int = 0,
        lines: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        console = Console(stderr=True)
        audible = current_rank() == 0 and not _bar_on_stderr()
        self.drawn = audible and console.is_terminal and not console.is_dumb_terminal
        self.note = ""
        self._lines = audible and lines and not self.drawn
        self._unit, self._title, self._clock = unit, title, clock
        self._bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[text]}", markup=False),
            console=console,
            auto_refresh=False,
            redirect_stdout=sys.stdout.isatty(),  # a file or a pipe gets its lines without the bar
            get_time=clock,
            disable=not self.drawn,
        )
        self._number = self._bars.add_task(title, total=total, completed=done, text="")
        self._begun = self._shown = clock()

    def __enter__(self) -> "ProgressCounter":
        self._bars.start()
        if self.drawn:
            self._bars.console.show_cursor(True)  # a process that is killed cannot show it again
            self._draw()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.drawn:
            self._draw()
        elif self._lines and self._clock() - self._begun >= _LINES:
            self._print()
        self._bars.stop()

    def advance(self, amount: int = 1) -> None:
        """Add to the amount of work done."""
        self._bars.advance(self._number, amount)
        waited = self._clock() - self._shown
        if self.drawn and waited >= _REDRAW:
            self._draw()
        elif self._lines and waited >= _LINES and not self._bars.finished:
            self._print()

    def next_stage(self, name: str = "") -> None:
        """Count the stage that ends now, if there is one, and show the name of the next one before it starts."""
        ended, self.note = int(bool(self.note)), name
        self.advance(ended)
        if self.drawn:
            self._draw()

    def _draw(self) -> None:
        self._shown = self._clock()
        self._bars.update(self._number, text=self._text(), refresh=True)

    def _print(self) -> None:
        self._shown = self._clock()
        print(f"{self._title}: {self._text()}" if self._title else self._text(), file=sys.stderr, flush=True)

    def _text(self) -> str:
        """For example ``120/800 rooms, 3.4 rooms/s, 0:03:20 left``."""
        task = self._bars.tasks[self._number]
        words, measured = [self._amounts(task)], self._unit != _STAGES
        if task.speed and measured:
            words.append(self._rate(task.speed))
        if task.finished:
            words.append(f"took {_duration(float(task.elapsed or 0))}")
        elif task.time_remaining is not None and measured:
            words.append(f"{_duration(float(task.time_remaining))} left")
        return ", ".join([*words, self.note] if self.note else words)

    def _amounts(self, task: Task) -> str:
        done, total = int(task.completed), int(task.total or 0)
        return f"{decimal(done)}/{decimal(total)}" if self._unit == BYTES else f"{done}/{total} {self._unit}"

    def _rate(self, speed: float) -> str:
        if self._unit == BYTES:
            return f"{decimal(int(speed))}/s"
        return f"{speed:.3g} {self._unit}/s" if speed >= 1 else f"{1 / speed:.3g} s each"


def _bar_on_stderr() -> bool:
    return hasattr(sys.stderr, "rich_proxied_file")  # rich passes stderr through an object of its own


def _duration(seconds: float) -> str:
    """Hours, minutes and seconds: ``0:03:20``."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"
