"""Attention backend: xformers' memory-efficient attention."""

from functools import cache
from importlib.util import find_spec
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from openrayzer.interfaces import ATTENTION_BACKENDS, AttentionBackend


@ATTENTION_BACKENDS.register("xformers")
class XformersAttention(AttentionBackend):
    """Memory-efficient attention of xformers, on CUDA; its dispatcher picks the operator."""

    def refusal(self, query: Float[Tensor, "b n heads e"]) -> str:
        if query.device.type != "cuda":
            return f"its operators need a CUDA device, and the tensors are on {query.device.type}"
        if find_spec("xformers") is None:
            return "xformers is not installed: pip install xformers"
        return operator_refusal(
            capability=torch.cuda.get_device_capability(query.device), dtype=query.dtype, head_width=query.shape[-1]
        )

    def attend(
        self,
        query: Float[Tensor, "b n heads e"],
        key: Float[Tensor, "b m heads e"],
        value: Float[Tensor, "b m heads e"],
    ) -> Float[Tensor, "b n heads e"]:
        if query.device.type != "cuda":
            raise RuntimeError(f"attention backend 'xformers' cannot run: {self.refusal(query)}; use 'auto' or 'sdpa'")
        return _operators().memory_efficient_attention(query, key, value)

    def attend_with_lse(
        self,
        query: Float[Tensor, "b n heads e"],
        key: Float[Tensor, "b m heads e"],
        value: Float[Tensor, "b m heads e"],
    ) -> tuple[Float[Tensor, "b n heads e"], Float[Tensor, "b heads n"]]:
        out, lse = _operators().fmha.memory_efficient_attention_forward_requires_grad(query, key, value)
        return out, lse[..., : query.shape[1]]  # some operators pad it

    def attend_backward(
        self,
        gradient: Float[Tensor, "b n heads e"],
        query: Float[Tensor, "b n heads e"],
        key: Float[Tensor, "b m heads e"],
        value: Float[Tensor, "b m heads e"],
        out: Float[Tensor, "b n heads e"],
        lse: Float[Tensor, "b heads n"],
    ) -> tuple[Float[Tensor, "b n heads e"], Float[Tensor, "b m heads e"], Float[Tensor, "b m heads e"]]:
        return _operators().fmha.memory_efficient_attention_backward(gradient, out, lse.contiguous(), query, key, value)


def operator_refusal(*, capability: tuple[int, int], dtype: torch.dtype, head_width: int) -> str:
    """Why no xformers operator takes such a call; empty if one does.

    Args:
        capability: CUDA compute capability, e.g. (8, 0) for an A100.
        dtype: of the queries.
        head_width: width of one head.

    Source: limits of the fa3, fa2 and cutlass operators in xformers 0.0.35, xformers/ops/fmha.
    """
    if head_width % 8:
        return f"the head width must be a multiple of 8, got {head_width}"
    half = dtype in (torch.float16, torch.bfloat16)
    if not half and dtype != torch.float32:
        return f"it takes float32, float16 and bfloat16, got {dtype}"
    if dtype == torch.bfloat16 and capability < (8, 0):
        return f"bfloat16 needs compute capability 8.0, this device has {capability[0]}.{capability[1]}"
    if not half and capability > (9, 0):
        return f"float32 works up to compute capability 9.0, this device has {capability[0]}.{capability[1]}"
    if head_width > 256 and capability > (9, 0):
        return f"heads wider than 256 work up to compute capability 9.0, got {head_width}"
    return ""


@cache
def _operators() -> Any:
    """xformers.ops, imported on first use: the import takes seconds and most runs on a CPU never need it."""
    import xformers.ops

    return xformers.ops
