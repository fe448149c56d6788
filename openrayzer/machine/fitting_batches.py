"""Batches of views that are as large as memory allows."""

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
"""Share of a CPU's free memory that batches may take; the rest is for temporary memory and for other programs."""


class FittingBatches:
    """Splits views into batches of at most ``most`` views, with fewer views if memory is short.

    On a GPU, a batch that runs out of memory is halved and computed again. On a CPU, the system would kill the process,
    so the memory of one view is measured first, and if ``most`` views might not fit, the memory of two views, which
    gives the cost of each further view. The results of these trials are discarded. The size that fits is remembered.

    Args:
        most: largest number of views in a batch, 1 or more.
        device: device of the computation.
        processes: number of processes that share the memory of this machine and do the same work.
    """

    def __init__(self, most: int, *, device: torch.device, processes: int = 1) -> None:
        if most < 1:
            raise ValueError(f"a batch must have 1 view or more, got {most}")
        self.most, self.device, self.processes = most, device, processes
        self._sizes: dict[Hashable, int] = {}
        self._budget: float | None = None

    def each(self, count: int, work: Callable[[slice], T], *, advice: str, like: Hashable = None) -> Iterator[T]:
        """Yield the results of ``work`` on views 0 to ``count``, batch by batch.

        Args:
            count: number of views.
            work: computes a slice of the views. It may be called again with the same views, so it must have no side
                effects. Its memory must grow with the number of views.
            advice: remedy if memory runs out for a single view, e.g. "take fewer views".
            like: key of the kind of work; work with equal keys must take equal memory.

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
        """The result on as many views as fit, and their number."""
        while True:
            try:
                return work(slice(first, first + size)), size
            except RuntimeError as error:
                if not ran_out_of_memory(error):
                    raise
                if size == 1:
                    raise InputError(f"not enough memory for a single view: {advice}") from error
            size = self._sizes[like] = self._fewer(size, size // 2)
            torch.cuda.empty_cache()  # not inside ``except``: there the error still holds the tensors of the call

    def _fitting(self, work: Callable[[slice], T]) -> int:
        """Number of views that fit into a CPU's memory, from the memory of one view, or of one and of two."""
        if self._budget is None:  # once: later, freed memory that this process keeps would count as taken
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
            LOG.warning("not enough memory for %d views at once; continuing with %d", wanted, fitting)
        return fitting


def _taken(work: Callable[[slice], T], size: int) -> int:
    """Most bytes in use at once while ``work`` computes the first ``size`` views."""
    with LiveBytes() as live:
        work(slice(size))
    return live.peak


def ran_out_of_memory(error: Exception) -> bool:
    """Whether an operation failed for lack of memory. Only a GPU's error has its own class."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
