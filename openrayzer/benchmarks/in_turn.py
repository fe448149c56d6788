"""Contestants measured in turn, so that what else the machine does falls on all of them alike."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

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


def in_turn(
    contestants: Mapping[str, Callable[[], object]],
    *,
    rounds: int,
    device: torch.device,
    warm_up: int = 1,
    clock: Clock = time.perf_counter,
) -> dict[str, Timing]:
    """Time of each contestant, called once per round, one after the other.

    Args:
        contestants: by name; each does the same work each time.
        rounds: that are measured.
        device: which is waited for before the clock is read.
        warm_up: rounds before, which are not.
        clock: ``time.process_time`` counts what all threads of this process have computed, however busy the machine is.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range(warm_up + rounds):
        for name, work in contestants.items():
            synchronise(device)
            begin = clock()
            work()
            synchronise(device)
            if number >= warm_up:
                seconds[name].append(clock() - begin)
    return {name: Timing.of(measured) for name, measured in seconds.items()}


def synchronise(device: torch.device) -> None:
    """Wait for what the device has been given to do; a CPU has always done it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
