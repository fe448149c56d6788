"""Attention backend "auto": chooses another backend for each kind of call."""

import logging
from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from openrayzer.components.attention.preference import NAMES, preferred
from openrayzer.components.attention.proven import Kind, first_process, kind_of, kind_refusal
from openrayzer.components.attention.xformers_operators import broken
from openrayzer.interfaces import ATTENTION_BACKENDS, AttentionBackend
from openrayzer.layers.constants import constant_in_graphs

logger = logging.getLogger(__name__)

SHORT = 2**25
"""Up to this number of scores, b * heads * n * m, "reference" is faster than "sdpa" on a CPU in bfloat16."""


@ATTENTION_BACKENDS.register("auto")
class AutoAttention(AttentionBackend):
    """The fastest backend that can run the call. The log shows the choice and its reasons once.

    On CUDA this is the first backend in the table of ``preference.py`` that passes a trial call. On a CPU it is
    "reference" for short sequences in bfloat16, otherwise "sdpa".
    """

    def __init__(self) -> None:
        self._backends = {name: ATTENTION_BACKENDS[name]() for name in sorted(NAMES)}
        self._chosen: dict[tuple, AttentionBackend] = {}

    def refusal(self, query: Float[Tensor, "b n heads e"]) -> str:
        return ""

    def attend(
        self,
        query: Float[Tensor, "b n heads e"],
        key: Float[Tensor, "b m heads e"],
        value: Float[Tensor, "b m heads e"],
    ) -> Float[Tensor, "b n heads e"]:
        return self.choose(query, key).attend(query, key, value)

    def attend_with_lse(
        self,
        query: Float[Tensor, "b n heads e"],
        key: Float[Tensor, "b m heads e"],
        value: Float[Tensor, "b m heads e"],
    ) -> tuple[Float[Tensor, "b n heads e"], Float[Tensor, "b heads n"]]:
        return self.choose(query, key).attend_with_lse(query, key, value)

    def attend_backward(
        self,
        gradient: Float[Tensor, "b n heads e"],
        query: Float[Tensor, "b n heads e"],
        key: Float[Tensor, "b m heads e"],
        value: Float[Tensor, "b m heads e"],
        out: Float[Tensor, "b n heads e"],
        lse: Float[Tensor, "b heads n"],
    ) -> tuple[Float[Tensor, "b n heads e"], Float[Tensor, "b m heads e"], Float[Tensor, "b m heads e"]]:
        return self.choose(query, key).attend_backward(gradient, query, key, value, out, lse)

    def choose(self, query: Float[Tensor, "b n heads e"], key: Float[Tensor, "b m heads e"]) -> AttentionBackend:
        """The backend for a call with these queries and keys; the choice is cached for each kind of call."""
        kind, short, fake = kind_of(query), _is_short(query, key), isinstance(query, FakeTensor)
        if torch.compiler.is_compiling():  # the compiler treats the choice as a constant and cannot trace a cache
            return self._backends[_choice(fake, short, *kind)]
        call = (fake, short, *kind)
        if call not in self._chosen:
            self._chosen[call] = self._backends[_choice(*call)]
        return self._chosen[call]

    def refusals(self, query: Float[Tensor, "b n heads e"], key: Float[Tensor, "b m heads e"]) -> dict[str, str]:
        """The reason why each backend cannot run the call, in order of preference; empty for a backend that can."""
        kind, short, fake = kind_of(query), _is_short(query, key), isinstance(query, FakeTensor)
        return {name: _refusal(name, kind, short=short, fake=fake) for name in preferred(kind)}


@constant_in_graphs
def _choice(fake: bool, short: bool, device: torch.device, dtype: torch.dtype, head_width: int, one_query: bool) -> str:
    """Name of the backend for a kind of call; ``fake`` is for tensors without data."""
    kind = Kind(device, dtype, head_width, one_query)
    return _first_able(kind, short=short, fake=True)[0] if fake else _reported_choice(kind, short)


@cache
def _reported_choice(kind: Kind, short: bool) -> str:
    """Choose and log once. The log warns if the best backend cannot run or if xformers is broken."""
    name, refusals = _first_able(kind, short=short, fake=False)
    passed_over = "".join(f"; {other}: {why}" for other, why in refusals.items())
    logger.info("attention on %s in %s: %s%s", kind.device, kind.dtype, name, passed_over)
    if kind.device.type == "cuda":
        best = preferred(kind)[0]
        if best in refusals and not kind.one_query:
            _warn(
                f"attention on {kind.device} in {kind.dtype}: {best!r} should be the fastest but cannot run: "
                f"{refusals[best]}; {name!r} runs instead"
            )
        if trouble := broken():
            _warn(f"xformers is installed but cannot be used: {trouble}")
    return name


@cache
def _warn(text: str) -> None:
    logger.log(logging.WARNING if first_process() else logging.INFO, "WARNING: %s", text)


def _first_able(kind: Kind, *, short: bool, fake: bool) -> tuple[str, dict[str, str]]:
    """Name of the first backend that can run the call, and the refusals of the backends before it."""
    refusals: dict[str, str] = {}
    for name in preferred(kind):
        refusal = _refusal(name, kind, short=short, fake=fake)
        if not refusal:
            break
        refusals[name] = refusal
    return name, refusals


def _refusal(name: str, kind: Kind, *, short: bool, fake: bool) -> str:
    if name == "reference":
        if kind.device.type != "cpu" or kind.dtype != torch.bfloat16:
            return "slower than sdpa except on a CPU in bfloat16"
        return "" if short else "the sequences are long"
    return "" if name == "sdpa" else kind_refusal(name, fake, *kind)


def _is_short(query: Tensor, key: Tensor) -> bool:
    short = False
    if query.numel() // query.shape[-1] * key.shape[1] <= SHORT:
        short = True  # a branch lets the compiler guard on the comparison instead of the lengths
    return short
