"""Renderer "joint": self-attention over target tokens and memory in one sequence."""

import torch
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor

from openrayzer.interfaces import RENDERERS, AttentionBackend, PositionEncoding, TokenRenderer
from openrayzer.layers.norm import layer_norm
from openrayzer.layers.stack import SelfStack


@RENDERERS.register("joint")
class JointRenderer(TokenRenderer):
    """Self-attention over the tokens of one target view and the whole memory, as in LVSM and RayZer.

    Each block also updates the memory, separately for each target view. So each view processes the whole memory.

    Args:
        width: token width d.
        num_heads: attention heads.
        depth: number of blocks.
        mlp_ratio: hidden width of the feed-forward layers, in token widths.
        qk_norm_eps: epsilon of the RMSNorm of queries and keys, 1e-5 in RayZer and LVSM; null switches the norm off.
    """

    def __init__(
        self, *, width: int, num_heads: int, depth: int, mlp_ratio: float = 4.0, qk_norm_eps: float | None = 1e-5
    ) -> None:
        super().__init__()
        self.width = width
        self.norm = layer_norm(width)
        self.stack = SelfStack(
            width=width, num_heads=num_heads, depth=depth, mlp_ratio=mlp_ratio, qk_norm_eps=qk_norm_eps
        )

    def forward(
        self,
        rays: Float[Tensor, "b v n d"],
        memory: Float[Tensor, "b k d"],
        *,
        positions: Float[Tensor, "b v n 2"],
        memory_positions: Float[Tensor, "b k 2"],
        position_encoding: PositionEncoding,
        backend: AttentionBackend,
    ) -> Float[Tensor, "b v n d"]:
        v, n = rays.shape[1:3]
        targets = rearrange(rays, "b v n d -> (b v) n d")
        sequence = torch.cat([targets, repeat(memory, "b k d -> (b v) k d", v=v).to(rays.dtype)], dim=1)
        memory_positions = repeat(memory_positions, "b k two -> (b v) k two", v=v)
        sequence_positions = torch.cat([rearrange(positions, "b v n two -> (b v) n two"), memory_positions], dim=1)
        rendered = self.stack(self.norm(sequence), sequence_positions, position_encoding, backend)
        return rearrange(rendered[:, :n], "(b v) n d -> b v n d", v=v)
