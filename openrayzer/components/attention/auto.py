"""Attention backend: picks another one."""

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
"""Scores b * heads * n * m up to which keeping them is faster on a CPU in bfloat16 than the fused kernel."""


@ATTENTION_BACKENDS.register("auto")
class AutoAttention(AttentionBackend):
    """The fastest backend that can run the call; says once which and why.

    On CUDA it is the first backend of ``attention/preference.py`` that has run such a call. On a CPU it is the formula
    itself for short sequences in bfloat16, else sdpa.
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
        """The backend for such a call; decided once per device, dtype, head width and whether it is short."""
        kind, short, fake = kind_of(query), _is_short(query, key), isinstance(query, FakeTensor)
        if torch.compiler.is_compiling():  # decides once per compiled shape anyway, and cannot follow the rest
            return self._backends[_choice(fake, short, *kind)]
        situation = (fake, short, *kind)
        if situation not in self._chosen:
            self._chosen[situation] = self._backends[_choice(*situation)]
        return self._chosen[situation]

    def refusals(self, query: Float[Tensor, "b n heads e"], key: Float[Tensor, "b m heads e"]) -> dict[str, str]:
        """Why each backend is not taken for such a call, in order of preference; the first without a reason is."""
        kind, short, fake = kind_of(query), _is_short(query, key), isinstance(query, FakeTensor)
        return {name: _refusal(name, kind, short=short, fake=fake) for name in preferred(kind)}


@constant_in_graphs
def _choice(fake: bool, short: bool, device: torch.device, dtype: torch.dtype, head_width: int, one_query: bool) -> str:
    """Name of the backend."""
    kind = Kind(device, dtype, head_width, one_query)
    return _first_able(kind, short=short, fake=True)[0] if fake else _reported_choice(kind, short)


@cache
def _reported_choice(kind: Kind, short: bool) -> str:
    """The choice. It is logged once, with a warning if the best backend cannot run or xformers is broken."""
    name, refusals = _first_able(kind, short=short, fake=False)
    passed_over = "".join(f"; {other}: {why}" for other, why in refusals.items())
    logger.info("attention on %s in %s: %s%s", kind.device, kind.dtype, name, passed_over)
    if kind.device.type == "cuda":
        best = preferred(kind)[0]
        if best in refusals and not kind.one_query:
            _warn(
                f"attention on {kind.device} in {kind.dtype}: {best!r} should be the fastest and cannot run: "
                f"{refusals[best]}; {name!r} runs instead"
            )
        if trouble := broken():
            _warn(f"xformers is installed and cannot be used: {trouble}")
    return name


@cache
def _warn(text: str) -> None:
    logger.log(logging.WARNING if first_process() else logging.INFO, "WARNING: %s", text)


def _first_able(kind: Kind, *, short: bool, fake: bool) -> tuple[str, dict[str, str]]:
    """Name of the first backend that can run the call, and why those before it cannot."""
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
        short = True  # a branch: so a compiler can decide without knowing the lengths
    return short
