"""Running means for metrics.jsonl. Sums stay on the device until a line is due."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from openrayzer.machine.distributed import Process


class Meter:
    """Sums of named values and of times since the last line. Checkpoints hold the sums of values."""

    def __init__(self) -> None:
        self._restart()

    def _restart(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}
        self._views = self._steps = 0
        self._waited, self._since = 0.0, time.perf_counter()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Exclude the time of the ``with`` block: evaluations, pictures and checkpoints are not training."""
        begin = time.perf_counter()
        try:
            yield
        finally:
            self._since += time.perf_counter() - begin

    def start(self) -> None:
        """Start to measure time."""
        self._since = time.perf_counter()

    def add(self, values: Mapping[str, Tensor]) -> None:
        """Add the values of one micro-batch, without waiting for the device."""
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, torch.zeros_like(value)) + value.detach()
            self._counts[name] = self._counts.get(name, 0) + 1

    def tick(self, *, views: int, waited: float) -> None:
        """Count one optimizer step.

        Args:
            views: images that this process has read; 0 if another process counts the same clips.
            waited: seconds that this process has waited for them.
        """
        self._views, self._waited, self._steps = self._views + views, self._waited + waited, self._steps + 1

    def line(self, process: Process) -> dict[str, float]:
        """The means over the steps since the last call and over all processes. The sums start again from zero.

        ``seconds`` and ``data_wait`` are per optimizer step; ``data_wait`` is that of the process that waited longest.
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
        """Restore ``state``, which holds no times."""
        self._sums = {name: value.to(device) for name, value in state["sums"].items()}
        self._counts = dict(state["counts"])


def read(values: Sequence[Tensor]) -> list[Tensor]:
    """Scalars on the CPU in float64, with one transfer for each device that holds some of them."""
    devices = dict.fromkeys(value.device for value in values)
    found: dict[int, Tensor] = {}
    for device in devices:
        places = [place for place, value in enumerate(values) if value.device == device]
        together = torch.stack([values[place].detach().double() for place in places]).cpu()
        found |= zip(places, together.unbind(), strict=True)
    return [found[place] for place in range(len(values))]
