"""Renderer "layered": each block reads the scene as the encoder block of the same number left it."""

from torch import nn

from openrayzer.components.renderers.reading import TargetStream
from openrayzer.interfaces import RENDERERS
from openrayzer.layers.block import ReadingBlock


@RENDERERS.register("layered")
class LayeredRenderer(TargetStream):
    """The renderer "reading" with a memory of its own for each block: block l reads the tokens after encoder block l.

    With the encoder "per_view", the keys and values of a context view never change, whatever views are added later. If
    the encoder has another depth, each block reads it at its own relative depth. The norms of the blocks have no gains,
    which would add nothing, because a linear layer follows each norm.

    Args:
        width: token width d.
        num_heads: attention heads.
        depth: number of blocks.
        mlp_ratio: hidden width of the feed-forward layers, in token widths.
        qk_norm_eps: epsilon of the RMSNorm of queries and keys, 1e-5 as published; null switches the norm off.

    Source: Jia et al. 2026, "Efficient-LVSM", the target stream. No norm precedes its first block.
    """

    def __init__(
        self, *, width: int, num_heads: int, depth: int, mlp_ratio: float = 4.0, qk_norm_eps: float | None = 1e-5
    ) -> None:
        blocks = [
            ReadingBlock(
                width=width,
                num_heads=num_heads,
                mlp_ratio=mlp_ratio,
                qk_norm_eps=qk_norm_eps,
                norm_gain=False,
                memory_norm=True,
            )
            for _ in range(depth)
        ]
        super().__init__(nn.Identity(), nn.Identity(), blocks, width=width, num_heads=num_heads)
        self.num_layers = depth
