"""Attention by the cosine of the angle between queries and keys; the caller decides which keys each query sees."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from openrayzer.geometry.precision import full_precision

SHORTEST_SQUARE = 1e-6
"""Added to the squared length of queries and keys, so that the gradient is finite at zero. Source: RayDer."""

SMALLEST_SCALE = 1e-3
"""Lower limit of the learned scale."""

Heads = Float[Tensor, "b v n heads e"]
"""Queries, keys or values of the n tokens of v views."""


@dataclass(frozen=True)
class KeyValue:
    """Keys and values of the tokens of v views."""

    key: Heads
    value: Heads

    def joined(self, later: "KeyValue") -> "KeyValue":
        """Keys and values of these views, followed by the keys and values of ``later``, along the view axis."""
        return KeyValue(torch.cat([self.key, later.key], dim=-4), torch.cat([self.value, later.value], dim=-4))


Attend = Callable[[Heads, KeyValue], Heads]
"""Attention of queries, given the keys and values of the same tokens: softmax(q k^T / sqrt(e)) v.

Each function in ``view_attention`` and ``neighbourhood`` returns such a function, with its own rule about the keys that
a query sees.
"""

ViewRotation = Callable[[Float[Tensor, "*more b v n heads e"]], Float[Tensor, "*more b v n heads e"]]
"""Rotary position encoding of queries and keys."""


class CosineAttention(nn.Module):
    """softmax(s cos(q, k)) v with one learned s per head; no biases.

    Keys are scaled to length 1 and queries to s sqrt(e), because ``Attend`` divides scores by sqrt(e). All of s is in
    the queries, so its gradient takes one sum over the queries and none over the keys.

    Args:
        width: token width d.
        head_width: width e of one head.

    Source: RayDer, after Swin v2 and HDiT.
    """

    def __init__(self, *, width: int, head_width: int) -> None:
        super().__init__()
        self.num_heads = num_heads_of(width, head_width)
        self.query_key_value = nn.Linear(width, 3 * width, bias=False)
        self.scale = nn.Parameter(torch.full((self.num_heads,), 10.0))
        self.out = nn.Linear(width, width, bias=False)

    def forward(
        self, tokens: Float[Tensor, "b v n d"], attend: Attend, rotate: ViewRotation
    ) -> tuple[Float[Tensor, "b v n d"], KeyValue]:
        """Output tokens, and the keys and values of the input tokens.

        Args:
            tokens: input tokens.
            attend: attends to the keys that each query sees.
            rotate: position encoding of queries and keys.
        """
        packed = self.query_key_value(tokens)
        packed = rearrange(packed, "b v n (three h e) -> three b v n h e", three=3, h=self.num_heads)
        query, key = rotate(_with_length(packed[:2], self._lengths(packed.shape[-1]))).unbind(0)
        keys_values = KeyValue(key, packed[2])
        return self.out(rearrange(attend(query, keys_values), "b v n h e -> b v n (h e)")), keys_values

    def _lengths(self, head_width: int) -> Float[Tensor, "two 1 1 1 heads 1"]:
        """Target lengths of queries and keys."""
        scale = full_precision(self.scale).clamp(min=SMALLEST_SCALE)
        return rearrange(torch.stack([scale * head_width**0.5, torch.ones_like(scale)]), "two h -> two 1 1 1 h 1")


def num_heads_of(width: int, head_width: int) -> int:
    """Number of heads, width / head_width.

    Raises:
        ValueError: ``width`` is not a multiple of ``head_width``.
    """
    if head_width < 1 or width % head_width:
        raise ValueError(f"width {width} must be a multiple of head_width {head_width}")
    return width // head_width


def unrotated(heads: Float[Tensor, "*more b v n heads e"]) -> Float[Tensor, "*more b v n heads e"]:
    """A ``ViewRotation`` for tokens that have no position."""
    return heads


def _with_length(
    heads: Float[Tensor, "two b v n heads e"], length: Float[Tensor, "two 1 1 1 heads 1"]
) -> Float[Tensor, "two b v n heads e"]:
    values = full_precision(heads)
    square = torch.linalg.vector_norm(values, dim=-1, keepdim=True).square()
    return (values * (torch.rsqrt(square + SHORTEST_SQUARE) * length)).to(heads.dtype)
