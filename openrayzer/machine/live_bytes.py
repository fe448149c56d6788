"""Bytes in use by the results of operations, counted while the operations run."""

import weakref
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveBytes(TorchDispatchMode):
    """Counts each storage from the operation that makes it until its last reference is gone.

    Older storages, such as weights, do not count, and neither does the temporary memory of a kernel.

    Args:
        block: sizes are rounded up to multiples of this number of bytes, as an allocator does.

    Attributes:
        bytes: bytes in use now.
        peak: most bytes in use at one time until now.
    """

    def __init__(self, *, block: int = 1) -> None:
        super().__init__()
        self.block = block
        self.bytes = self.peak = 0
        self._known: weakref.WeakSet[torch.UntypedStorage] = weakref.WeakSet()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for storage in _storages((args, kwargs)):  # an unknown input is older than this block
            self._known.add(storage)
        result = func(*args, **(kwargs or {}))
        for storage in _storages(result):
            self._count(storage)
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        if storage in self._known:
            return
        self._known.add(storage)
        size = -(-storage.nbytes() // self.block) * self.block
        self.bytes += size
        self.peak = max(self.peak, self.bytes)
        weakref.finalize(storage, self._forget, size)

    def _forget(self, size: int) -> None:
        self.bytes -= size


def _storages(values: Any) -> Iterator[torch.UntypedStorage]:
    return (leaf.untyped_storage() for leaf in tree_leaves(values) if isinstance(leaf, Tensor))
