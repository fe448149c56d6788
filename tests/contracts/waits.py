"""Finds operations that make the host wait for a GPU, on fake tensors with a device and a shape but no content."""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

WAITING = {
    "_linalg_det", "_linalg_eigh", "_linalg_slogdet", "_linalg_solve_ex", "_linalg_svd", "_unique2", "bincount",
    "equal", "linalg_inv_ex", "linalg_lu_factor_ex", "masked_select", "nonzero", "repeat_interleave",
    "unique_consecutive", "unique_dim",
}  # fmt: skip
"""Operations that return a status, or a tensor with a size that depends on values: the host waits for both."""
INDEXING = {"index", "index_put", "index_put_", "_index_put_impl_"}


class Waits(TorchDispatchMode):
    """Lists every operation after which the host would wait. Numbers that the host reads are 0.

    Attributes:
        found: "operation at file:line" of each.
    """

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.prim.device.default:  # most calls; fake tensors know the answer
            return args[0].fake_device
        kwargs = kwargs or {}
        name = func._overloadpacket.__name__
        devices = {value.device.type for value in tree_leaves((args, kwargs)) if isinstance(value, Tensor)}
        if ("cuda" in devices and (name in WAITING or self._by_mask(name, args))) or self._copied(name, args, kwargs):
            self._note(name)
        if name in ("cat", "stack") and len(devices) > 1:
            self._note(f"{name} of tensors on several devices, which is an error,")
        if name == "_local_scalar_dense" and isinstance(args[0], FakeTensor):
            if "cuda" in devices:
                self._note("item")
            return 0.0 if args[0].dtype.is_floating_point else False if args[0].dtype == torch.bool else 0
        return func(*args, **kwargs)

    @staticmethod
    def _by_mask(name: str, args: Any) -> bool:
        chosen = [index for index in args[1] if isinstance(index, Tensor)] if name in INDEXING else []
        return any(index.dtype in (torch.bool, torch.uint8) or index.device.type == "cpu" for index in chosen)

    @staticmethod
    def _copied(name: str, args: Any, kwargs: Any) -> bool:
        if name == "_to_copy" and kwargs.get("device") is not None:
            devices, blocking = (args[0].device, torch.device(kwargs["device"])), not kwargs.get("non_blocking")
        elif name == "copy_":
            devices, blocking = (args[1].device, args[0].device), not kwargs.get("non_blocking", args[2:] == (True,))
        elif name in ("masked_fill", "masked_fill_"):  # the host reads the value
            return isinstance(args[2], Tensor) and args[2].device.type == "cuda"
        else:
            return False
        return blocking and {device.type for device in devices} == {"cpu", "cuda"}

    def _note(self, what: str) -> None:
        ours = [entry for entry in traceback.extract_stack() if "/openrayzer/" in entry.filename]
        place = f"{Path(ours[-1].filename).name}:{ours[-1].lineno}" if ours else "?"
        self.found.append(f"{what} at {place}")


@contextmanager
def on_fake_gpu(*modules: nn.Module) -> Iterator[None]:
    """Replaces all weights and buffers of the modules by fake CUDA tensors; other tensors keep their device."""
    with FakeTensorMode(allow_non_fake_inputs=False):
        made: dict[int, tuple[Tensor, Tensor]] = {}
        for table in (
            table for top in modules for part in top.modules() for table in (part._parameters, part._buffers)
        ):
            for name, tensor in table.items():
                if tensor is None:
                    continue
                if id(tensor) not in made:
                    fake = torch.empty(tensor.shape, dtype=tensor.dtype, device="cuda")
                    if isinstance(tensor, nn.Parameter):
                        fake = nn.Parameter(fake, requires_grad=tensor.requires_grad)
                    made[id(tensor)] = fake, tensor  # keeps the old tensor alive, so that its id is unique
                table[name] = made[id(tensor)][0]
        yield
