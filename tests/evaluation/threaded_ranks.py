"""Several ranks in one process."""

import threading
from collections.abc import Callable
from typing import Any

import torch

from openrayzer.machine.distributed import Process


class Ranks:
    """Processes that are threads of this process and exchange values in memory."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.barrier = threading.Barrier(count, timeout=120)
        self.box: list[Any] = [None] * count

    def each(self, function: Callable[[Process], Any]) -> list[Any]:
        """The result of the function on every rank; an exception is a result as well."""
        results: list[Any] = [None] * self.count

        def call(rank: int) -> None:
            try:
                results[rank] = function(_Threaded(rank, self))
            except Exception as error:
                results[rank] = error
                self.barrier.abort()

        threads = [threading.Thread(target=call, args=(rank,)) for rank in range(self.count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return results


class _Threaded(Process):
    def __init__(self, rank: int, ranks: Ranks) -> None:
        super().__init__(rank, rank, ranks.count, torch.device("cpu"))
        object.__setattr__(self, "ranks", ranks)

    def gather(self, value: Any) -> list[Any]:
        ranks: Ranks = self.ranks  # type: ignore[attr-defined]
        ranks.box[self.rank] = value
        ranks.barrier.wait()
        values = list(ranks.box)
        ranks.barrier.wait()
        return values

    def gather_to_first(self, value: Any) -> list[Any]:
        return self.gather(value) if self.is_first else self.gather(value)[:0]

    def by_first(self, function: Callable[[], Any]) -> Any:
        return self.gather(function() if self.is_first else None)[0]
