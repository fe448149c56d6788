"""Attention backend "sdpa": PyTorch's scaled_dot_product_attention."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from openrayzer.components.attention.fused import FusedAttention
from openrayzer.interfaces import ATTENTION_BACKENDS


@ATTENTION_BACKENDS.register("sdpa")
class ScaledDotProductAttention(FusedAttention):
    """PyTorch's scaled_dot_product_attention, which chooses a kernel at each call. It runs every call."""

    def refusal(self, query: Float[Tensor, "b n heads e"]) -> str:
        return ""

    def attend(
        self,
        query: Float[Tensor, "b n heads e"],
        key: Float[Tensor, "b m heads e"],
        value: Float[Tensor, "b m heads e"],
    ) -> Float[Tensor, "b n heads e"]:
        query, key, value = (x.transpose(1, 2) for x in (query, key, value))  # heads first, without copies
        return F.scaled_dot_product_attention(query, key, value).transpose(1, 2)
