"""Timing of several functions alternately, so that other load on the machine affects all of them equally."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch

Clock = Callable[[], float]


@dataclass(frozen=True)
class Timing:
    """Seconds of one call: the median over all rounds, and the minimum, which other load affects least."""

    median: float
    minimum: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> "Timing":
        """The timing of one or more measured calls."""
        return cls(median(seconds), min(seconds))


class Stopwatch:
    """Marks on the time line of a device, and the seconds between them.

    On a GPU a mark is an event in its stream. Nothing waits for an event before ``synchronise``.

    Args:
        device: the device that works.
        clock: clock for a CPU, in seconds.
    """

    def __init__(self, device: torch.device, clock: Clock = time.perf_counter) -> None:
        self.device, self.clock = device, clock

    def mark(self) -> Any:
        """Now on a CPU; on a GPU, the moment when it has finished all earlier work."""
        if self.device.type != "cuda":
            return self.clock()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def synchronise(self) -> None:
        """Wait until the device has finished its work. Call it before ``seconds``."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def seconds(self, begin: Any, end: Any) -> float:
        """Seconds from one mark to a later one."""
        return begin.elapsed_time(end) / 1e3 if self.device.type == "cuda" else end - begin


def time_in_turn(
    contestants: Mapping[str, Callable[[], object]],
    *,
    rounds: int,
    device: torch.device,
    warm_up: int = 1,
    repeat: int = 1,
    clock: Clock = time.perf_counter,
) -> dict[str, Timing]:
    """Time several functions. Each round calls all of them once, one after the other.

    Args:
        contestants: functions by name; each call of a function must do the same work.
        rounds: number of measured rounds.
        device: the device that works. On a GPU nothing waits for it before the last round is over.
        warm_up: number of rounds before the measured ones.
        repeat: calls in one measurement, which gives their mean; for work that takes less time than its launch.
        clock: clock for a CPU. ``time.process_time`` counts the computing time of all threads of this process; other
            load on the machine does not change it.
    """
    watch = Stopwatch(device, clock)
    spans: dict[str, list[tuple[Any, Any]]] = {name: [] for name in contestants}
    for number in range(warm_up + rounds):
        for name, work in contestants.items():
            begin = watch.mark()
            for _ in range(repeat):
                work()
            if number >= warm_up:
                spans[name].append((begin, watch.mark()))
    watch.synchronise()
    return {name: Timing.of([watch.seconds(*span) / repeat for span in found]) for name, found in spans.items()}
