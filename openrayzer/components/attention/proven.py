"""Backends that must first pass a trial call: no rule knows every mix of PyTorch, libraries, driver and device."""

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
"""Fused kernels read 16 bytes at a time, so head widths must be multiples of this."""
PLANNED_CAPABILITY = (9, 0)
"""Compute capability that planning on tensors without content assumes where there is no device."""


class Kind(NamedTuple):
    """What decides whether a backend can run a call.

    Attributes:
        device: of the tensors.
        dtype: of the tensors.
        head_width: width of one head.
        one_query: whether each sequence has a single query.
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
    """Base of backends for CUDA devices that count as able only after a real call of the kind.

    Rules reject calls that cannot work. Then the backend must pass a small call, forward and backward, once per device,
    dtype and head width. It takes milliseconds; if it raises, the exception is the reason of the refusal. For tensors
    without content, as in planning and tracing, the rules alone decide.

    Attributes:
        name: what the backend is registered as.
        compiles: whether the backend compiles a kernel of its own; if so, no trial runs while a model is compiled.
    """

    name: ClassVar[str]
    compiles: ClassVar[bool] = False

    @abstractmethod
    def rule(self, kind: Kind) -> str:
        """Why such a call cannot work on a CUDA device, as far as rules can tell; empty if it may work."""

    @abstractmethod
    def compute(
        self,
        query: Float[Tensor, "b n heads e"],
        key: Float[Tensor, "b m heads e"],
        value: Float[Tensor, "b m heads e"],
    ) -> Float[Tensor, "b n heads e"]:
        """``attend`` without the check for a refusal."""

    def refusal(self, query: Float[Tensor, "b n heads e"]) -> str:
        return kind_refusal(self.name, isinstance(query, FakeTensor), *kind_of(query))

    def attend(
        self,
        query: Float[Tensor, "b n heads e"],
        key: Float[Tensor, "b m heads e"],
        value: Float[Tensor, "b m heads e"],
    ) -> Float[Tensor, "b n heads e"]:
        self.demand(query)
        return self.compute(query, key, value)

    def attend_with_lse(
        self,
        query: Float[Tensor, "b n heads e"],
        key: Float[Tensor, "b m heads e"],
        value: Float[Tensor, "b m heads e"],
    ) -> tuple[Float[Tensor, "b n heads e"], Float[Tensor, "b heads n"]]:
        self.demand(query)
        return super().attend_with_lse(query, key, value)

    def demand(self, query: Float[Tensor, "b n heads e"]) -> None:
        """Check that such calls can run.

        Raises:
            InputError: they cannot, with the reason.
        """
        if refusal := self.refusal(query):
            raise InputError(f"attention backend {self.name!r} cannot run: {refusal}; or use 'auto' or 'sdpa'")


def kind_of(query: Float[Tensor, "b n heads e"]) -> Kind:
    """The kind of call that these queries make."""
    one_query = False
    if query.shape[1] == 1:
        one_query = True  # a branch: so a compiler can decide without knowing the length
    return Kind(query.device, query.dtype, query.shape[-1], one_query)


@constant_in_graphs
def kind_refusal(
    name: str, fake: bool, device: torch.device, dtype: torch.dtype, head_width: int, one_query: bool
) -> str:
    """Why a backend cannot run a kind of call; empty if it can.

    Args:
        name: a registered ``ProvenAttention``.
        fake: whether the tensors have no content; then the rules alone decide.
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
    return backend().rule(kind) or failure(backend().compute, kind)


def failure(attend: Callable[[Tensor, Tensor, Tensor], Tensor], kind: Kind) -> str:
    """Why a small forward and backward call of this kind fails; empty if it does not.

    The call runs in a thread of its own, without the caller's ``no_grad``, inference mode, autocast, dispatch modes or
    hooks for saved tensors. It draws no random numbers.

    Raises:
        torch.OutOfMemoryError: memory is full, which says nothing about the backend.
    """
    try:
        with ThreadPoolExecutor(max_workers=1) as thread:
            thread.submit(_call, attend, kind).result()
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # foreign code may raise anything
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
            torch.cuda.synchronize(kind.device)  # errors of kernels arrive late


def first_process() -> bool:
    """Whether this is the first process of its machine, which warns for all of them."""
    return os.environ.get("LOCAL_RANK", "0") == "0"
