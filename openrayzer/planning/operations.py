"""Records the operations of a micro-batch in order: inputs, outputs, computation, and the line of the call."""

import sys
import weakref
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.hooks import RemovableHandle

from openrayzer.interfaces import Loss
from openrayzer.layers.stack import Stack
from openrayzer.planning.flops import flops_of

_PACKAGE = Path(__file__).parents[1]
_HERE = (str(Path(__file__).parent), str(_PACKAGE / "machine"))
_FREE = {
    "_reshape_alias", "_unsafe_view", "alias", "detach", "empty", "empty_like", "empty_strided", "is_same_size",
    "lift_fresh", "new_empty", "new_empty_strided", "set_", "sym_size",
}  # fmt: skip
"""Operators that start no kernel on a device. Views start none either."""
_OVERWRITING = {"copy_", "fill_", "zero_"}
_PRODUCTS = {"mm", "addmm", "bmm", "baddbmm", "mv", "dot"}


@dataclass(frozen=True)
class Access:
    """A part of a storage that an operation reads or writes.

    Attributes:
        storage: number of the storage, unique in the trace.
        view: offset, sizes and strides of the part.
        bytes: bytes of the part; a number repeated by a stride of 0 counts once.
        total: bytes of the whole storage.
    """

    storage: int
    view: tuple[Any, ...]
    bytes: int
    total: int


@dataclass(frozen=True)
class Operation:
    """One call of an operator.

    Attributes:
        name: name of the operator.
        kind: "product", "attention", "convolution" or "other".
        flops: floating point operations; 0 for kind "other".
        dtype: dtype of the first floating point input.
        reads: inputs.
        writes: outputs.
        region: "forward" or "backward", and the number of the call of a block or loss; None outside of them.
        place: file and line of the forward call in this package, e.g. "layers/mlp.py:18"; "" if there is none.
        channels_last: whether a convolution's input has channels last in memory.
    """

    name: str
    kind: str
    flops: int
    dtype: torch.dtype
    reads: tuple[Access, ...]
    writes: tuple[Access, ...]
    region: tuple[str, int] | None
    place: str
    channels_last: bool


class Operations(TorchDispatchMode):
    """Records the operations that run inside a ``with`` block.

    A backward operation belongs to the block and the line that made its autograd node in the forward pass. Autograd
    numbers its nodes one after the other, so the number of a node identifies its block and line.

    Args:
        modules: model and losses. The losses and the blocks of stacks are regions; gradients of weights are results.

    Attributes:
        recorded: the operations in order.
        results: numbers of the storages that hold gradients of weights.
    """

    def __init__(self, modules: nn.Module) -> None:
        super().__init__()
        self.recorded: list[Operation] = []
        self.results: set[int] = set()
        self._modules = modules
        self._numbers: weakref.WeakKeyDictionary[torch.UntypedStorage, int] = weakref.WeakKeyDictionary()
        self._storages = self._calls = 0
        self._entered: list[tuple[int, int]] = []  # running blocks: number of the call, first autograd node
        self._ranges: list[tuple[int, int, int]] = []  # first node, node after the last, call; in order
        self._places: dict[int, str] = {}
        self._handles: list[RemovableHandle] = []

    def __enter__(self) -> "Operations":
        for module in self._modules.modules():
            blocks: Iterable[nn.Module] = module.blocks if isinstance(module, Stack) else ()
            for block in [module] if isinstance(module, Loss) else blocks:
                self._handles.append(block.register_forward_pre_hook(self._enter_block))
                self._handles.append(block.register_forward_hook(self._leave_block, always_call=True))
        for weight in self._modules.parameters():
            if weight.requires_grad:
                self._handles.append(weight.register_post_accumulate_grad_hook(self._note_gradient))
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        for handle in self._handles:
            handle.remove()
        super().__exit__(*error)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        place = self._place()
        name = func._overloadpacket.__name__
        free = name in _FREE or func.is_view
        inputs = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        accesses = [] if free else [self._access(tensor) for tensor in inputs[name in _OVERWRITING :]]
        result = func(*args, **kwargs)
        outputs = [] if free else [self._access(leaf) for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        if outputs:  # a call without outputs is a query, e.g. for the device
            flops = flops_of(func, args, kwargs, result)
            self.recorded.append(
                Operation(
                    name, _kind(name), flops, _dtype(inputs), tuple(accesses), tuple(outputs), self._region(), place,
                    name.startswith("convolution") and _channels_last(inputs[-2:] if "backward" in name else inputs),
                )
            )  # fmt: skip
        return result

    def _enter_block(self, block: nn.Module, inputs: Any) -> None:
        self._entered.append((self._calls, _next_node()))
        self._calls += 1

    def _leave_block(self, block: nn.Module, inputs: Any, output: Any) -> None:
        call, first = self._entered.pop()
        if not self._entered and torch._C._current_autograd_node() is None:  # not a recomputation
            self._ranges.append((first, _next_node(), call))

    def _note_gradient(self, weight: Tensor) -> None:
        if weight.grad is not None:
            self.results.add(self._number(weight.grad.untyped_storage()))

    def _region(self) -> tuple[str, int] | None:
        if self._entered:
            return "forward", self._entered[0][0]
        node = torch._C._current_autograd_node()
        if node is None:
            return None
        at = bisect_right(self._ranges, (node._sequence_nr(), sys.maxsize, 0)) - 1
        if at < 0 or node._sequence_nr() >= self._ranges[at][1]:
            return None
        return "backward", self._ranges[at][2]

    def _place(self) -> str:
        """Line of this call, or in a backward pass the line that made the running autograd node."""
        node = torch._C._current_autograd_node()
        if node is not None and not self._entered:
            return self._places.get(node._sequence_nr(), "")
        place = _caller()
        self._places.setdefault(_next_node() - 1, place)
        return place

    def _access(self, tensor: Tensor) -> Access:
        storage = tensor.untyped_storage()
        sizes, strides = tuple(tensor.shape), tensor.stride()
        numbers = 1
        for size, stride in zip(sizes, strides, strict=True):
            numbers *= size if stride else min(size, 1)
        view = tensor.storage_offset(), sizes, strides
        return Access(self._number(storage), view, numbers * tensor.element_size(), storage.nbytes())

    def _number(self, storage: torch.UntypedStorage) -> int:
        if storage not in self._numbers:
            self._numbers[storage] = self._storages
            self._storages += 1
        return self._numbers[storage]


def _next_node() -> int:
    """The number of autograd's next node."""
    return int(torch._C._autograd._get_sequence_nr())


def _caller() -> str:
    """File and line of the innermost frame in this package, without the code that plans."""
    frame = sys._getframe(2)
    while frame is not None:
        name = frame.f_code.co_filename
        if name.startswith(str(_PACKAGE)) and not name.startswith(_HERE):
            return f"{name.removeprefix(str(_PACKAGE) + '/')}:{frame.f_lineno}"
        frame = frame.f_back  # type: ignore[assignment]
    return ""


def _kind(name: str) -> str:
    if name in _PRODUCTS:
        return "product"
    if "attention" in name:
        return "attention"
    return "convolution" if name.startswith("convolution") else "other"


def _dtype(inputs: list[Tensor]) -> torch.dtype:
    return next((tensor.dtype for tensor in inputs if tensor.is_floating_point()), torch.float32)


def _channels_last(inputs: list[Tensor]) -> bool:
    image = inputs[0]
    return image.dim() == 4 and image.is_contiguous(memory_format=torch.channels_last) and not image.is_contiguous()
