"""Attention backend "reference": the formula in plain PyTorch."""

from einops import einsum
from jaxtyping import Float
from torch import Tensor

from openrayzer.interfaces import ATTENTION_BACKENDS, AttentionBackend


@ATTENTION_BACKENDS.register("reference")
class ReferenceAttention(AttentionBackend):
    """The formula in plain PyTorch. It stores all n * m scores; tests compare the other backends with it.

    Source: Vaswani et al. 2017, equation 1.
    """

    def refusal(self, query: Float[Tensor, "b n heads e"]) -> str:
        return ""

    def attend(
        self,
        query: Float[Tensor, "b n heads e"],
        key: Float[Tensor, "b m heads e"],
        value: Float[Tensor, "b m heads e"],
    ) -> Float[Tensor, "b n heads e"]:
        scores = einsum(query * query.shape[-1] ** -0.5, key, "b n h e, b m h e -> b h n m")
        weights = scores.softmax(dim=-1).to(value.dtype)  # PyTorch sums in float32 for every dtype
        return einsum(weights, value, "b h n m, b m h e -> b n h e")
