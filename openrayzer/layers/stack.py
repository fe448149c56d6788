"""Runs of blocks, with optional activation checkpointing."""

from collections.abc import Callable, Sequence
from typing import Any

from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from openrayzer.interfaces import AttentionBackend, AttentionLayout, PositionEncoding, Rotation
from openrayzer.layers.block import Block
from openrayzer.layers.init import init_blocks
from openrayzer.layers.norm import layer_norm


class Stack(nn.Module):
    """Blocks applied in turn.

    Attributes:
        checkpoint_every: every so many blocks, one forgets its activations and computes them again in the
            backward pass; 0 keeps all. Set for a whole model by ``checkpoint_activations``.
        call: calls a block: ``call_block``, or its compiled version.
    """

    def __init__(self, blocks: Sequence[nn.Module], *, width: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.checkpoint_every = 0
        self.call: Callable[..., Any] = call_block
        init_blocks(self.blocks, width=width)

    @property
    def compiled(self) -> bool:
        """Whether blocks are called compiled."""
        return self.call is not call_block

    def run(self, number: int, *inputs: Any) -> Any:
        """Block ``number`` on its inputs; what it returns."""
        again = self.checkpoint_every > 0 and self.training and number % self.checkpoint_every == 0
        return self.call(self.blocks[number], again, *inputs)


def call_block(block: nn.Module, again: bool, *inputs: Any) -> Any:
    """The result of a block. With ``again`` its activations are not kept; the backward pass computes them again."""
    return checkpoint(block, *inputs, use_reentrant=False) if again else block(*inputs)


class SelfStack(Stack):
    """Self-attention blocks over sequences, or over views in groups that change from block to block.

    Args:
        width: token width d.
        num_heads: attention heads of every block.
        depth: number of blocks.
        mlp_ratio: hidden width of the feed-forward layers, in token widths.
        qk_norm_eps: epsilon of the norm of queries and keys; None leaves them as they are.
        input_norm: whether a LayerNorm stands before the first block.
    """

    def __init__(
        self,
        *,
        width: int,
        num_heads: int,
        depth: int,
        mlp_ratio: float = 4.0,
        qk_norm_eps: float | None = 1e-5,
        input_norm: bool = False,
    ) -> None:
        blocks = [
            Block(width=width, num_heads=num_heads, mlp_ratio=mlp_ratio, qk_norm_eps=qk_norm_eps) for _ in range(depth)
        ]
        super().__init__(blocks, width=width)
        self.head_width = width // num_heads
        self.input_norm = layer_norm(width) if input_norm else nn.Identity()

    def forward(
        self,
        tokens: Float[Tensor, "b n d"],
        positions: Float[Tensor, "b n 2"],
        position_encoding: PositionEncoding,
        backend: AttentionBackend,
    ) -> Float[Tensor, "b n d"]:
        """All blocks on sequences; ``positions`` are (row, column) in patches from 1, (0, 0) for no patch."""
        rotate = position_encoding.rotation(positions, self.head_width)
        tokens = self.input_norm(tokens)
        for number in range(len(self.blocks)):
            tokens = self.run(number, tokens, rotate, backend)
        return tokens

    def over_views(
        self,
        tokens: Float[Tensor, "b v n d"],
        positions: Float[Tensor, "b v n 2"],
        layout: AttentionLayout,
        position_encoding: PositionEncoding,
        backend: AttentionBackend,
    ) -> Float[Tensor, "b v n d"]:
        """All blocks on views; ``layout`` says which tokens see which in each block."""
        sizes = {"b": tokens.shape[0], "v": tokens.shape[1], "n": tokens.shape[2]}
        rotations: dict[str, Rotation] = {}
        tokens = self.input_norm(tokens)
        for number in range(len(self.blocks)):
            groups = layout.groups(number)
            if groups not in rotations:
                grouped = rearrange(positions, f"b v n two -> {groups} two")
                rotations[groups] = position_encoding.rotation(grouped, self.head_width)
            sequences = self.run(number, rearrange(tokens, f"b v n d -> {groups} d"), rotations[groups], backend)
            tokens = rearrange(sequences, f"{groups} d -> b v n d", **sizes)
        return tokens


def checkpoint_activations(model: nn.Module, *, every: int) -> None:
    """Make each stack of ``model`` recompute every ``every``-th block in the backward pass; 0 turns it off.

    Raises:
        ValueError: ``every`` is negative.
    """
    if every < 0:
        raise ValueError(f"activation_checkpointing must be 0 (off) or a number of blocks, got {every}")
    for module in model.modules():
        if isinstance(module, Stack):
            module.checkpoint_every = every
