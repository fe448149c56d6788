"""Views in batches as large as memory takes."""

import logging
from collections.abc import Callable, Hashable, Iterator
from typing import TypeVar

import torch

from openrayzer.interfaces import InputError
from openrayzer.machine.host_memory import available_bytes
from openrayzer.machine.live_bytes import LiveBytes

LOG = logging.getLogger(__name__)
T = TypeVar("T")
SHARE = 0.5
"""Of the memory that a CPU has available; the rest is for what kernels take for themselves, and for others."""


class FittingBatches:
    """Divides views among calls: ``most`` in each, fewer where memory does not take so many; remembers how many fit.

    On a GPU a batch for which memory runs out is halved and computed again. On a CPU running out of memory means being
    killed, so the first view of every kind of work is computed once beforehand and thrown away, while its memory is
    counted; if ``most`` of them might not fit, so are two, which tells what every further view takes.

    Args:
        most: views in a batch, 1 or more.
        device: where the work is done.
        processes: how many share the memory of this machine and do the same.
    """

    def __init__(self, most: int, *, device: torch.device, processes: int = 1) -> None:
        if most < 1:
            raise ValueError(f"a batch must be of 1 view or more, got {most}")
        self.most, self.device, self.processes = most, device, processes
        self._sizes: dict[Hashable, int] = {}
        self._budget: float | None = None

    def each(self, count: int, work: Callable[[slice], T], *, advice: str, like: Hashable = None) -> Iterator[T]:
        """The results of ``work`` on views 0 to ``count``, batch by batch, as they are asked for.

        Args:
            count: number of views.
            work: takes some of the views. It may be called with the same ones again, so it must change nothing, and
                its memory must grow with their number.
            advice: what to do where memory runs out for a single view, e.g. "take fewer views".
            like: the same for all work that takes as much memory.

        Raises:
            InputError: there is not enough memory for one view.
        """
        if self.device.type == "cpu" and min(self.most, count) > 1 and like not in self._sizes:
            self._sizes[like] = self._fitting(work)
        first = 0
        while first < count:
            size = min(self._sizes.get(like, self.most), count - first)
            result, size = self._halving(first, size, work, advice, like)
            yield result
            first += size

    def _halving(self, first: int, size: int, work: Callable[[slice], T], advice: str, like: Hashable) -> tuple[T, int]:
        """The result on as many views as fit, and how many those are."""
        while True:
            try:
                return work(slice(first, first + size)), size
            except RuntimeError as error:
                if not ran_out_of_memory(error):
                    raise
                if size == 1:
                    raise InputError(f"not enough memory for a single view: {advice}") from error
            size = self._sizes[like] = self._fewer(size, size // 2)
            torch.cuda.empty_cache()  # only here, where the error no longer holds the tensors of the failed call

    def _fitting(self, work: Callable[[slice], T]) -> int:
        """How many views fit into a CPU's memory, by what one takes, or one and two."""
        if self._budget is None:  # once: later, memory that this process has freed and keeps would not count
            available = available_bytes()
            self._budget = float("inf") if available is None else SHARE * available / self.processes
        try:
            one = _taken(work, 1)
            if one * self.most <= self._budget:
                return self.most
            if 2 * one > self._budget:
                return self._fewer(self.most, 1)
            further = max(1, _taken(work, 2) - one)
        except RuntimeError as error:
            if not ran_out_of_memory(error):
                raise
            return self._fewer(self.most, 1)
        return self._fewer(self.most, min(self.most, 1 + int((self._budget - one) // further)))

    def _fewer(self, wanted: int, fitting: int) -> int:
        if fitting < wanted:
            LOG.warning("not enough memory for %d views at once; going on with %d", wanted, fitting)
        return fitting


def _taken(work: Callable[[slice], T], size: int) -> int:
    """Most bytes in use at once while the first views are computed."""
    with LiveBytes() as live:
        work(slice(size))
    return live.peak


def ran_out_of_memory(error: Exception) -> bool:
    """Whether that is why an operation failed; a GPU's error has a class of its own, the CPU's has not."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
