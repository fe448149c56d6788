"""Attention backend: picks another one."""

import logging

from jaxtyping import Float
from torch import Tensor

from openrayzer.attention.sdpa import ScaledDotProductAttention
from openrayzer.attention.xformers import XformersAttention
from openrayzer.interfaces import ATTENTION_BACKENDS, AttentionBackend

logger = logging.getLogger(__name__)


@ATTENTION_BACKENDS.register("auto")
class AutoAttention(AttentionBackend):
    """The fastest backend that can run the call: xformers, else sdpa; says once which and why."""

    def __init__(self) -> None:
        self._candidates = {"xformers": XformersAttention(), "sdpa": ScaledDotProductAttention()}
        self._chosen: dict[tuple, AttentionBackend] = {}

    def refusal(self, query: Float[Tensor, "b n heads e"]) -> str:
        return ""

    def attend(
        self,
        query: Float[Tensor, "b n heads e"],
        key: Float[Tensor, "b m heads e"],
        value: Float[Tensor, "b m heads e"],
    ) -> Float[Tensor, "b n heads e"]:
        return self.choose(query).attend(query, key, value)

    def choose(self, query: Float[Tensor, "b n heads e"]) -> AttentionBackend:
        """The backend for such queries; decided once per device, dtype and head width."""
        situation = (query.device, query.dtype, query.shape[-1])
        if situation not in self._chosen:
            refusals = {name: backend.refusal(query) for name, backend in self._candidates.items()}
            name = next(name for name, refusal in refusals.items() if not refusal)
            passed_over = "".join(f"; {other}: {why}" for other, why in refusals.items() if why)
            logger.info("attention on %s in %s: %s%s", query.device, query.dtype, name, passed_over)
            self._chosen[situation] = self._candidates[name]
        return self._chosen[situation]
