"""Base of attention backends that must pass a trial call first.

Rules cannot cover all combinations of PyTorch, libraries, driver and device.
"""

import os
from abc import abstractmethod
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from functools import cache
from typing import Any, ClassVar, NamedTuple, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from openrayzer.interfaces import ATTENTION_BACKENDS, AttentionBackend, InputError
from openrayzer.layers.constants import constant_in_graphs

T = TypeVar("T", bound=Callable[..., Any])
HALF = (torch.float16, torch.bfloat16)
WIDTH_STEPS = {torch.float16: 8, torch.bfloat16: 8, torch.float32: 4}
"""Head widths must be multiples of these numbers, because fused kernels read 16 bytes at a time."""
PLANNED_CAPABILITY = (9, 0)
"""Compute capability that the planner assumes on machines without a GPU."""


class Kind(NamedTuple):
    """A kind of call: the properties that decide whether a backend can run it.

    Attributes:
        device: device of the tensors.
        dtype: dtype of the tensors.
        head_width: width e of one head.
        one_query: True if each sequence has a single query.
    """

    device: torch.device
    dtype: torch.dtype
    head_width: int
    one_query: bool = False

    @property
    def capability(self) -> tuple[int, int]:
        """CUDA compute capability of the device, e.g. (9, 0) for an H100 or H200."""
        try:
            return torch.cuda.get_device_capability(self.device)
        except (RuntimeError, AssertionError):  # no driver, or a build without CUDA
            return PLANNED_CAPABILITY


class ProvenAttention(AttentionBackend):
    """Base of backends for CUDA devices that must pass a trial call.

    First, rules reject calls that cannot work. Then a small call, forward and backward, must succeed, once for each
    kind of call. It takes milliseconds. If it raises an exception, the exception is the reason of the refusal. For
    tensors without data, as in planning and tracing, the rules alone decide.

    Attributes:
        name: registered name of the backend.
        compiles: True if the backend compiles its kernel. Such a backend runs no trial call within ``torch.compile``.
    """

    name: ClassVar[str]
    compiles: ClassVar[bool] = False

    @abstractmethod
    def rule(self, kind: Kind) -> str:
        """The reason why rules forbid this kind of call on a CUDA device; empty if they allow it."""

    @abstractmethod
    def compute(
        self,
        query: Float[Tensor, "b n heads e"],
        key: Float[Tensor, "b m heads e"],
        value: Float[Tensor, "b m heads e"],
    ) -> Float[Tensor, "b n heads e"]:
        """``attend`` without the check that the call can run."""

    def refusal(self, query: Float[Tensor, "b n heads e"]) -> str:
        return kind_refusal(self.name, isinstance(query, FakeTensor), *kind_of(query))

    def attend(
        self,
        query: Float[Tensor, "b n heads e"],
        key: Float[Tensor, "b m heads e"],
        value: Float[Tensor, "b m heads e"],
    ) -> Float[Tensor, "b n heads e"]:
        self.require(query)
        return self.compute(query, key, value)

    def attend_with_lse(
        self,
        query: Float[Tensor, "b n heads e"],
        key: Float[Tensor, "b m heads e"],
        value: Float[Tensor, "b m heads e"],
    ) -> tuple[Float[Tensor, "b n heads e"], Float[Tensor, "b heads n"]]:
        self.require(query)
        return super().attend_with_lse(query, key, value)

    def require(self, query: Float[Tensor, "b n heads e"]) -> None:
        """Check that the backend can run calls with such queries.

        Raises:
            InputError: it cannot; the message gives the reason.
        """
        if refusal := self.refusal(query):
            raise InputError(f"attention backend {self.name!r} cannot run: {refusal}; or use 'auto' or 'sdpa'")


def kind_of(query: Float[Tensor, "b n heads e"]) -> Kind:
    """The kind of a call with these queries."""
    one_query = False
    if query.shape[1] == 1:
        one_query = True  # a branch lets the compiler guard on the comparison instead of the length
    return Kind(query.device, query.dtype, query.shape[-1], one_query)


@constant_in_graphs
def kind_refusal(
    name: str, fake: bool, device: torch.device, dtype: torch.dtype, head_width: int, one_query: bool
) -> str:
    """The reason why a backend cannot run a kind of call; empty if it can.

    Args:
        name: registered name of a ``ProvenAttention``.
        fake: True for tensors without data; then the rules alone decide.
        device: see ``Kind``.
        dtype: see ``Kind``.
        head_width: see ``Kind``.
        one_query: see ``Kind``.
    """
    if device.type != "cuda":
        return f"its operators need a CUDA device, and the tensors are on {device.type}"
    kind = Kind(device, dtype, head_width, one_query)
    backend = ATTENTION_BACKENDS[name]
    assert issubclass(backend, ProvenAttention)
    if fake or (backend.compiles and torch.compiler.is_compiling()):
        return backend().rule(kind)
    return _proven_refusal(backend, kind)


@cache
def _proven_refusal(backend: type[ProvenAttention], kind: Kind) -> str:
    return backend().rule(kind) or trial_failure(backend().compute, kind)


def trial_failure(attend: Callable[[Tensor, Tensor, Tensor], Tensor], kind: Kind) -> str:
    """Run a small forward and backward call of this kind. Returns the error in one line; empty if there is none.

    The call runs in a separate thread, so the caller's ``no_grad``, inference mode, autocast, dispatch modes and saved
    tensor hooks do not affect it. It draws no random numbers.

    Raises:
        torch.OutOfMemoryError: the memory is full; this says nothing about the backend.
    """
    try:
        with ThreadPoolExecutor(max_workers=1) as thread:
            thread.submit(_call, attend, kind).result()
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # external code may raise any exception
        return f"a small call failed: {type(error).__name__}: {' '.join(str(error).split())[:400]}"
    return ""


def _call(attend: Callable[[Tensor, Tensor, Tensor], Tensor], kind: Kind) -> None:
    queries = 1 if kind.one_query else 33
    with torch.cuda.device(kind.device) if kind.device.type == "cuda" else nullcontext():
        heads = [
            torch.zeros(1, length, 2, kind.head_width, dtype=kind.dtype, device=kind.device, requires_grad=True)
            for length in (queries, 65, 65)
        ]
        out = attend(*heads)
        torch.autograd.grad(out, heads, torch.zeros_like(out))
        if kind.device.type == "cuda":
            torch.cuda.synchronize(kind.device)  # kernels report errors late


def first_process() -> bool:
    """True for the first process of each machine; it logs the warnings of all processes."""
    return os.environ.get("LOCAL_RANK", "0") == "0"
