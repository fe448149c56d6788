"""Means since the last line of metrics.jsonl, kept on the device until a line is due."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from openrayzer.machine.distributed import Process


class Meter:
    """Sums of named values and of time; part of a checkpoint, so that a resumed run writes the same lines."""

    def __init__(self) -> None:
        self._restart()

    def _restart(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}
        self._views = self._steps = 0
        self._waited, self._since = 0.0, time.perf_counter()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Time spent inside is nobody's: evaluations, pictures, checkpoints are not training."""
        begin = time.perf_counter()
        try:
            yield
        finally:
            self._since += time.perf_counter() - begin

    def start(self) -> None:
        """Time counts from now on."""
        self._since = time.perf_counter()

    def add(self, values: Mapping[str, Tensor]) -> None:
        """Add one micro-batch's values; nothing waits for the device here."""
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, torch.zeros_like(value)) + value.detach()
            self._counts[name] = self._counts.get(name, 0) + 1

    def tick(self, *, views: int, waited: float) -> None:
        """One more optimizer step, in which this process read ``views`` images and waited so many seconds for them."""
        self._views, self._waited, self._steps = self._views + views, self._waited + waited, self._steps + 1

    def line(self, process: Process) -> dict[str, float]:
        """Means over the steps and over all processes since the last call; then starts anew.

        ``seconds`` and ``data_wait`` are per optimizer step, the latter of the process that waited longest.
        """
        names = list(self._sums)
        own = read([self._sums[name] / self._counts[name] for name in names])
        means = process.total(torch.stack(own).float() if own else torch.zeros(0)) / process.world_size
        seconds = time.perf_counter() - self._since
        views = float(process.total(torch.tensor([float(self._views)])))
        waited = process.largest(int(self._waited * 1e6)) / 1e6
        record = {name: float(mean) for name, mean in zip(names, means, strict=True)}
        steps = max(1, self._steps)
        record |= {"seconds": seconds / steps, "views_per_second": views / seconds, "data_wait": waited / steps}
        self._restart()
        return record

    def state(self) -> dict[str, Any]:
        """The sums so far, on the CPU."""
        return {"sums": {name: value.cpu() for name, value in self._sums.items()}, "counts": dict(self._counts)}

    def load(self, state: Mapping[str, Any], device: torch.device) -> None:
        """Go on from ``state``, which holds no time."""
        self._sums = {name: value.to(device) for name, value in state["sums"].items()}
        self._counts = dict(state["counts"])


def read(values: Sequence[Tensor]) -> list[Tensor]:
    """The values, single numbers, on the CPU in float64: one reading for each device that holds some of them."""
    devices = dict.fromkeys(value.device for value in values)
    found: dict[int, Tensor] = {}
    for device in devices:
        places = [place for place, value in enumerate(values) if value.device == device]
        together = torch.stack([values[place].detach().double() for place in places]).cpu()
        found |= zip(places, together.unbind(), strict=True)
    return [found[place] for place in range(len(values))]
