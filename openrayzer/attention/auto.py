"""Attention backend: picks another one."""

import logging

import torch
from jaxtyping import Float
from torch import Tensor

from openrayzer.attention.reference import ReferenceAttention
from openrayzer.attention.sdpa import ScaledDotProductAttention
from openrayzer.attention.xformers import XformersAttention
from openrayzer.interfaces import ATTENTION_BACKENDS, AttentionBackend

logger = logging.getLogger(__name__)

SHORT = 2**25
"""Scores b * heads * n * m up to which keeping them is faster on a CPU in bfloat16 than the fused kernel."""


@ATTENTION_BACKENDS.register("auto")
class AutoAttention(AttentionBackend):
    """The fastest backend that can run the call; says once which and why.

    xformers on CUDA, where it can; else sdpa; on a CPU in bfloat16 and for short sequences the formula itself.
    """

    def __init__(self) -> None:
        self._backends = {
            "xformers": XformersAttention(),
            "reference": ReferenceAttention(),
            "sdpa": ScaledDotProductAttention(),
        }
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
        if torch.compiler.is_compiling():  # decides once per compiled shape anyway, and cannot follow the rest
            return self._backends[self._first(self.refusals(query, key))]
        situation = (query.device, query.dtype, query.shape[-1], _is_short(query, key))
        if situation not in self._chosen:
            refusals = self.refusals(query, key)
            name = self._first(refusals)
            passed_over = "".join(f"; {other}: {why}" for other, why in refusals.items() if why)
            logger.info("attention on %s in %s: %s%s", query.device, query.dtype, name, passed_over)
            self._chosen[situation] = self._backends[name]
        return self._chosen[situation]

    def refusals(self, query: Float[Tensor, "b n heads e"], key: Float[Tensor, "b m heads e"]) -> dict[str, str]:
        """Why each backend is not taken for such a call, in order of preference; the first without a reason is."""
        return {
            "xformers": self._backends["xformers"].refusal(query),
            "reference": _reference_refusal(query, short=_is_short(query, key)),
            "sdpa": "",
        }

    @staticmethod
    def _first(refusals: dict[str, str]) -> str:
        return next(name for name, refusal in refusals.items() if not refusal)


def _is_short(query: Tensor, key: Tensor) -> bool:
    return query.numel() // query.shape[-1] * key.shape[1] <= SHORT


def _reference_refusal(query: Tensor, *, short: bool) -> str:
    if query.device.type != "cpu" or query.dtype != torch.bfloat16:
        return "slower than sdpa except on a CPU in bfloat16"
    return "" if short else "the sequences are long"
