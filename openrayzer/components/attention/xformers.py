"""Attention backend "xformers": memory-efficient attention of the xformers package."""

import torch
from jaxtyping import Float
from torch import Tensor

from openrayzer.components.attention import xformers_operators
from openrayzer.components.attention.proven import WIDTH_STEPS, Kind, ProvenAttention
from openrayzer.interfaces import ATTENTION_BACKENDS


@ATTENTION_BACKENDS.register("xformers")
class XformersAttention(ProvenAttention):
    """Memory-efficient attention of the xformers package on CUDA; xformers chooses the operator."""

    name = "xformers"

    def rule(self, kind: Kind) -> str:
        return xformers_operators.failure_to_load() or operator_refusal(
            capability=kind.capability, dtype=kind.dtype, head_width=kind.head_width
        )

    def compute(
        self,
        query: Float[Tensor, "b n heads e"],
        key: Float[Tensor, "b m heads e"],
        value: Float[Tensor, "b m heads e"],
    ) -> Float[Tensor, "b n heads e"]:
        if torch.compiler.is_compiling():
            return xformers_operators.forward(query, key, value)[0]
        return xformers_operators.loaded().memory_efficient_attention(query, key, value)

    def attend_with_lse(
        self,
        query: Float[Tensor, "b n heads e"],
        key: Float[Tensor, "b m heads e"],
        value: Float[Tensor, "b m heads e"],
    ) -> tuple[Float[Tensor, "b n heads e"], Float[Tensor, "b heads n"]]:
        self.require(query)
        fmha = xformers_operators.loaded().fmha
        out, lse = fmha.memory_efficient_attention_forward_requires_grad(query, key, value)
        return out, lse[..., : query.shape[1]]  # some operators pad lse

    def attend_backward(
        self,
        gradient: Float[Tensor, "b n heads e"],
        query: Float[Tensor, "b n heads e"],
        key: Float[Tensor, "b m heads e"],
        value: Float[Tensor, "b m heads e"],
        out: Float[Tensor, "b n heads e"],
        lse: Float[Tensor, "b heads n"],
    ) -> tuple[Float[Tensor, "b n heads e"], Float[Tensor, "b m heads e"], Float[Tensor, "b m heads e"]]:
        fmha = xformers_operators.loaded().fmha
        return fmha.memory_efficient_attention_backward(gradient, out, lse.contiguous(), query, key, value)


def operator_refusal(*, capability: tuple[int, int], dtype: torch.dtype, head_width: int) -> str:
    """The reason why no xformers operator can run a call; empty if one can.

    Args:
        capability: CUDA compute capability, e.g. (8, 0) for an A100.
        dtype: dtype of the queries.
        head_width: width e of one head.

    Source: limits of the fa3, fa2 and cutlass operators in xformers/ops/fmha of xformers 0.0.35.
    """
    if head_width % (step := WIDTH_STEPS.get(dtype, 8)):
        return f"the head width must be a multiple of {step}, got {head_width}"
    if dtype not in WIDTH_STEPS:
        return f"it takes float32, float16 and bfloat16, got {dtype}"
    if dtype == torch.bfloat16 and capability < (8, 0):
        return f"bfloat16 needs compute capability 8.0, this device has {capability[0]}.{capability[1]}"
    if dtype == torch.float32 and capability > (9, 0):
        return f"float32 works up to compute capability 9.0, this device has {capability[0]}.{capability[1]}"
    if head_width > 256 and capability > (9, 0):
        return f"heads wider than 256 work up to compute capability 9.0, got {head_width}"
    return ""
