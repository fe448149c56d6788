"""Multi-head self-attention and cross-attention with normalised queries and keys."""

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from openrayzer.interfaces import AttentionBackend, Rotation
from openrayzer.layers.norm import head_norm
from openrayzer.layers.rms_norm import rms_normalise


class SelfAttention(nn.Module):
    """Self-attention without biases: every token of a sequence attends to every token.

    Args:
        width: token width d.
        num_heads: number of heads; each has width e = d / num_heads.
        qk_norm_eps: epsilon of the RMSNorm of queries and keys, which has learned gains, as in RayZer and LVSM;
            None switches the norm off.
    """

    def __init__(self, *, width: int, num_heads: int, qk_norm_eps: float | None = 1e-5) -> None:
        super().__init__()
        self.num_heads, self.qk_norm_eps = num_heads, qk_norm_eps
        head_width = split_width(width, num_heads)
        self.query_key_value = nn.Linear(width, 3 * width, bias=False)
        self.query_norm, self.key_norm = head_norm(head_width, qk_norm_eps), head_norm(head_width, qk_norm_eps)
        self.out = nn.Linear(width, width, bias=False)

    def forward(
        self, tokens: Float[Tensor, "b n d"], rotate: Rotation, backend: AttentionBackend
    ) -> Float[Tensor, "b n d"]:
        heads = rearrange(self.query_key_value(tokens), "b n (parts e) -> b n parts e", parts=3 * self.num_heads)
        query_key, value = heads.split((2 * self.num_heads, self.num_heads), dim=2)
        query, key = rotate(self._normalised(query_key)).to(value.dtype).chunk(2, dim=2)
        return self.out(rearrange(backend.attend(query, key, value), "b n h e -> b n (h e)"))

    def _normalised(self, heads: Float[Tensor, "b n two_h e"]) -> Float[Tensor, "b n two_h e"]:
        """Queries and keys after the norm; one call normalises both, each with its own gain."""
        if self.qk_norm_eps is None:
            return heads
        gains = [norm.get_parameter("weight").expand(self.num_heads, -1) for norm in (self.query_norm, self.key_norm)]
        return rms_normalise(heads, torch.cat(gains), eps=self.qk_norm_eps)


class CrossAttention(nn.Module):
    """Cross-attention without biases: tokens attend to a memory.

    ``keys_values`` computes the keys and values of the memory. Several sequences can share them.

    Args:
        width: token width d.
        num_heads: number of heads; each has width e = d / num_heads.
        qk_norm_eps: see ``SelfAttention``.
    """

    def __init__(self, *, width: int, num_heads: int, qk_norm_eps: float | None = 1e-5) -> None:
        super().__init__()
        self.num_heads = num_heads
        head_width = split_width(width, num_heads)
        self.query = nn.Linear(width, width, bias=False)
        self.key_value = nn.Linear(width, 2 * width, bias=False)
        self.query_norm, self.key_norm = head_norm(head_width, qk_norm_eps), head_norm(head_width, qk_norm_eps)
        self.out = nn.Linear(width, width, bias=False)

    def forward(
        self,
        tokens: Float[Tensor, "b n d"],
        keys_values: tuple[Float[Tensor, "b k h e"], Float[Tensor, "b k h e"]],
        rotate: Rotation,
        backend: AttentionBackend,
    ) -> Float[Tensor, "b n d"]:
        """Attend to the memory; ``keys_values`` is the result of the method ``keys_values``."""
        key, value = keys_values
        query = rearrange(self.query(tokens), "b n (h e) -> b n h e", h=self.num_heads)
        query = rotate(self.query_norm(query)).to(value.dtype)
        return self.out(rearrange(backend.attend(query, key, value), "b n h e -> b n (h e)"))

    def keys_values(
        self, memory: Float[Tensor, "b k d"], rotate: Rotation
    ) -> tuple[Float[Tensor, "b k h e"], Float[Tensor, "b k h e"]]:
        """Keys and values of the memory; they do not depend on the queries."""
        key, value = rearrange(self.key_value(memory), "b k (two h e) -> two b k h e", two=2, h=self.num_heads)
        return rotate(self.key_norm(key)).to(value.dtype), value


def split_width(width: int, num_heads: int) -> int:
    """Width of one head.

    Raises:
        ValueError: ``width`` is not a multiple of ``num_heads``.
    """
    if num_heads < 1 or width % num_heads:
        raise ValueError(f"width {width} must be a multiple of num_heads {num_heads}")
    return width // num_heads
