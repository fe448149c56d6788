"""Renderer "reading": cross-attention from target tokens to a memory that does not change."""

from collections.abc import Sequence
from typing import cast

from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from openrayzer.interfaces import RENDERERS, AttentionBackend, PositionEncoding, TokenRenderer
from openrayzer.layers.block import ReadingBlock
from openrayzer.layers.norm import layer_norm
from openrayzer.layers.stack import Stack
from openrayzer.layers.view_shares import SharesViews


class TargetStream(TokenRenderer, SharesViews):
    """Base of renderers that consist of ``ReadingBlock``.

    Args:
        norm: norm of the target tokens before the first block.
        memory_norm: norm of the memory before all blocks.
        blocks: the blocks, first to last.
        width: token width d.
        num_heads: attention heads.
    """

    reads_shares = True

    def __init__(
        self, norm: nn.Module, memory_norm: nn.Module, blocks: Sequence[ReadingBlock], *, width: int, num_heads: int
    ) -> None:
        super().__init__()
        self.width, self.head_width = width, width // num_heads
        self.norm, self.memory_norm = norm, memory_norm
        self.stack = Stack(blocks, width=width)

    def forward(
        self,
        rays: Float[Tensor, "b v n d"],
        memory: Float[Tensor, "b k d"],
        *,
        positions: Float[Tensor, "b v n 2"],
        memory_positions: Float[Tensor, "b k 2"],
        position_encoding: PositionEncoding,
        backend: AttentionBackend,
        prepared: tuple[Tensor, ...] = (),
        earlier: tuple[Float[Tensor, "b k d"], ...] = (),
    ) -> Float[Tensor, "b v n d"]:
        places = [
            rearrange(positions, "b v n two -> (b v) n two"),
            rearrange(positions, "b v n two -> b (v n) two"),
            memory_positions,
        ]
        of_memory = self.shares.attention(backend)
        rotations = [position_encoding.rotation(place, self.head_width) for place in places]
        tokens = self.norm(rays)
        memories = self.memories(memory, earlier) if not prepared else [memory] * len(self.stack.blocks)
        for number, of_block in enumerate(memories):
            keys_values = (prepared[2 * number], prepared[2 * number + 1]) if prepared else None
            tokens = self.stack.run(number, tokens, of_block, *rotations, backend, keys_values, of_memory)
        return tokens

    def prepare(
        self,
        memory: Float[Tensor, "b k d"],
        *,
        memory_positions: Float[Tensor, "b k 2"],
        position_encoding: PositionEncoding,
        earlier: tuple[Float[Tensor, "b k d"], ...] = (),
    ) -> tuple[Tensor, ...]:
        """Keys and values of the memory for each block: key, value, key, value, ..."""
        rotate = position_encoding.rotation(memory_positions, self.head_width)
        blocks = [cast(ReadingBlock, block) for block in self.stack.blocks]
        pairs = zip(blocks, self.memories(memory, earlier), strict=True)
        return tuple(part for block, of_block in pairs for part in block.keys_values(of_block, rotate))

    def memories(
        self, memory: Float[Tensor, "b k d"], earlier: tuple[Float[Tensor, "b k d"], ...]
    ) -> list[Float[Tensor, "b k d"]]:
        """The memory of each block: ``earlier``, then ``memory``; without earlier layers, ``memory`` for all blocks."""
        normed = [self.memory_norm(layer) for layer in (*earlier, memory)]
        return normed if earlier else normed * len(self.stack.blocks)


@RENDERERS.register("reading")
class ReadingRenderer(TargetStream):
    """Each block has self-attention within the target view, then cross-attention to the memory, which never changes.

    All target views of a call share the keys and values of the memory. With a prepared scene, all calls share them.
    So each further view processes only its own tokens.

    Args:
        width: token width d.
        num_heads: attention heads.
        depth: number of blocks.
        mlp_ratio: hidden width of the feed-forward layers, in token widths.
        qk_norm_eps: epsilon of the RMSNorm of queries and keys, 1e-5 in RayZer and LVSM; null switches the norm off.

    Source: the decoder of Vaswani et al. 2017; for view synthesis, Efficient-LVSM's target stream.
    """

    def __init__(
        self, *, width: int, num_heads: int, depth: int, mlp_ratio: float = 4.0, qk_norm_eps: float | None = 1e-5
    ) -> None:
        blocks = [
            ReadingBlock(width=width, num_heads=num_heads, mlp_ratio=mlp_ratio, qk_norm_eps=qk_norm_eps)
            for _ in range(depth)
        ]
        super().__init__(layer_norm(width), layer_norm(width), blocks, width=width, num_heads=num_heads)
