"""Contestants measured in turn, so that what else the machine does falls on all of them alike."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch

Clock = Callable[[], float]


@dataclass(frozen=True)
class Timing:
    """Seconds of one call: the median over all rounds, and the least, which a busy machine disturbs least."""

    median: float
    minimum: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> "Timing":
        """Of one or more measurements."""
        return cls(median(seconds), min(seconds))


class Stopwatch:
    """Marks on the time line of a device, and the seconds between them.

    On a GPU a mark is an event in its stream: nothing waits for it before ``synchronise``.

    Args:
        device: whose time it is.
        clock: of a CPU.
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
        """Wait until the device has finished its work; needed before the first call of ``seconds``."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def seconds(self, begin: Any, end: Any) -> float:
        """From one mark to a later one."""
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
    """Time of each contestant, called once per round, one after the other.

    Args:
        contestants: by name; each does the same work each time.
        rounds: that are measured.
        device: whose time is measured; on a GPU nothing waits for it before the last round is over.
        warm_up: rounds before, which are not.
        repeat: calls in one measurement; their mean counts. For work that takes less time than its call.
        clock: of a CPU; ``time.process_time`` counts what all threads of this process have computed, however busy the
            machine is.
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
