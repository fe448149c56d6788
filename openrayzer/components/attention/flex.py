"""Attention backend "flex": PyTorch's FlexAttention."""

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from openrayzer.components.attention.fused import FusedAttention
from openrayzer.components.attention.proven import HALF, Kind, ProvenAttention
from openrayzer.interfaces import ATTENTION_BACKENDS


@ATTENTION_BACKENDS.register("flex")
class FlexAttention(ProvenAttention, FusedAttention):
    """PyTorch's FlexAttention. Triton compiles its kernel at the first call, which takes seconds.

    Calls that need the log-sum-exp run PyTorch's precompiled kernels instead.

    Source: Dong et al. 2024, "Flex Attention: A Programming Model for Generating Optimized Attention Kernels".
    """

    name = "flex"
    compiles = True

    def rule(self, kind: Kind) -> str:
        if kind.dtype not in (*HALF, torch.float32):
            return f"it takes float16, bfloat16, float32, got {kind.dtype}"
        if kind.head_width < 16:
            return f"heads must be 16 wide or wider, got {kind.head_width}"
        if kind.capability < (8, 0):
            return f"it needs compute capability 8.0, this device has {kind.capability[0]}.{kind.capability[1]}"
        return ""

    def compute(
        self,
        query: Float[Tensor, "b n heads e"],
        key: Float[Tensor, "b m heads e"],
        value: Float[Tensor, "b m heads e"],
    ) -> Float[Tensor, "b n heads e"]:
        from torch.nn.attention.flex_attention import flex_attention  # slow import (1 s)

        heads = [x.transpose(1, 2) for x in (query, key, value)]
        if torch.compiler.is_compiling():
            return flex_attention(heads[0], heads[1], heads[2]).transpose(1, 2)
        with torch.compiler.set_stance("default"):  # evaluation forces eager mode, in which it would keep all scores
            return _compiled()(*heads).transpose(1, 2)


@cache
def _compiled() -> Callable[..., Any]:
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention)
