"""Stacks of transformer blocks, with optional activation checkpointing."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, runtime_checkable

from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from openrayzer.interfaces import AttentionBackend, AttentionLayout, PositionEncoding, Rotation
from openrayzer.layers.block import Block
from openrayzer.layers.init import init_blocks
from openrayzer.layers.norm import layer_norm
from openrayzer.layers.view_shares import SharesViews


class Stack(nn.Module):
    """Base of stacks of blocks. A subclass calls ``run`` for each block in its ``forward``.

    Args:
        blocks: the blocks, first to last.
        width: token width d, for the initialisation of weights.

    Attributes:
        checkpoint_every: each block with a number divisible by this recomputes its activations in the backward pass;
            0 keeps all activations. ``checkpoint_activations`` sets it for a whole model.
        call: the function that calls a block: ``call_block``, or its compiled version.
    """

    def __init__(self, blocks: Sequence[nn.Module], *, width: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.checkpoint_every = 0
        self.call: Callable[..., Any] = call_block
        self._kept: dict[int, Any] = {}
        init_blocks(self.blocks, width=width)

    @property
    def compiled(self) -> bool:
        """True if ``torch.compile`` compiles the blocks."""
        return self.call is not call_block

    def run(self, number: int, *inputs: Any) -> Any:
        """Result of block ``number`` for these inputs."""
        recompute = self.checkpoint_every > 0 and self.training and number % self.checkpoint_every == 0
        result = self.call(self.blocks[number], recompute, *inputs)
        if number in self._kept:
            self._kept[number] = result
        return result

    @contextmanager
    def keeping(self, numbers: Iterable[int]) -> Iterator[Mapping[int, Any]]:
        """The results of the blocks with these numbers, from 0, after the stack was called in this ``with`` block.

        Unlike hooks of modules, it works with compiled and with recomputed blocks.
        """
        self._kept = dict.fromkeys(numbers)
        try:
            yield self._kept
        finally:
            self._kept = {}


def call_block(block: nn.Module, recompute: bool, *inputs: Any) -> Any:
    """Result of a block. With ``recompute`` the backward pass recomputes the activations instead of storing them."""
    return checkpoint(block, *inputs, use_reentrant=False) if recompute else block(*inputs)


class SelfStack(Stack, SharesViews):
    """Stack of self-attention blocks, on sequences or on views.

    Args:
        width: token width d.
        num_heads: attention heads of each block.
        depth: number of blocks.
        mlp_ratio: hidden width of the feed-forward layers, in token widths.
        qk_norm_eps: epsilon of the RMSNorm of queries and keys; None switches the norm off.
        input_norm: True for a LayerNorm before the first block.
        norm_gain: whether the LayerNorms of the blocks have learned gains.
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
        norm_gain: bool = True,
    ) -> None:
        blocks = [
            Block(width=width, num_heads=num_heads, mlp_ratio=mlp_ratio, qk_norm_eps=qk_norm_eps, norm_gain=norm_gain)
            for _ in range(depth)
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
        """Tokens of sequences after all blocks.

        Args:
            tokens: input tokens.
            positions: (row, column) of each token in patches, counted from 1; (0, 0) for tokens that are not a patch.
            position_encoding: encodes positions in queries and keys.
            backend: computes attention.
        """
        *_, last = self.each_block(tokens, positions, position_encoding, backend)
        return last

    def each_block(
        self,
        tokens: Float[Tensor, "b n d"],
        positions: Float[Tensor, "b n 2"],
        position_encoding: PositionEncoding,
        backend: AttentionBackend,
    ) -> Iterator[Float[Tensor, "b n d"]]:
        """The input of the first block, then the tokens after each block; arguments as in ``forward``."""
        rotate = position_encoding.rotation(positions, self.head_width)
        tokens = self.input_norm(tokens)
        yield tokens
        for number in range(len(self.blocks)):
            tokens = self.run(number, tokens, rotate, backend)
            yield tokens

    def over_views(
        self,
        tokens: Float[Tensor, "b v n d"],
        positions: Float[Tensor, "b v n 2"],
        layout: AttentionLayout,
        position_encoding: PositionEncoding,
        backend: AttentionBackend,
    ) -> Float[Tensor, "b v n d"]:
        """Tokens of views after all blocks; ``layout`` decides which tokens see each other in each block.

        If processes share the views, these are the views of this process.
        """
        sizes = {"b": tokens.shape[0], "v": tokens.shape[1], "n": tokens.shape[2]}
        rotations: dict[str, Rotation] = {}
        tokens = self.input_norm(tokens)
        for number in range(len(self.blocks)):
            groups = layout.groups(number)
            if groups not in rotations:
                grouped = rearrange(positions, f"b v n two -> {groups} two")
                rotations[groups] = position_encoding.rotation(grouped, self.head_width)
            attention = backend if groups == "(b v) n" else self.shares.attention(backend)
            sequences = self.run(number, rearrange(tokens, f"b v n d -> {groups} d"), rotations[groups], attention)
            tokens = rearrange(sequences, f"{groups} d -> b v n d", **sizes)
        return tokens


@runtime_checkable
class Recomputing(Protocol):
    """A module that can recompute activations in the backward pass, such as ``Stack``, which explains the number."""

    checkpoint_every: int


def recomputing(model: nn.Module) -> list[Recomputing]:
    """The modules of ``model`` that can recompute activations."""
    return [module for module in model.modules() if isinstance(module, Recomputing)]


def checkpoint_activations(model: nn.Module, *, every: int) -> None:
    """Set activation checkpointing for all modules of ``model`` that can recompute activations.

    Args:
        model: any module.
        every: 1 recomputes all blocks in the backward pass, 2 every second block, and so on; 0 switches it off.

    Raises:
        ValueError: ``every`` is negative.
    """
    if every < 0:
        raise ValueError(f"activation_checkpointing must be 0 (off) or a number of blocks, got {every}")
    for module in recomputing(model):
        module.checkpoint_every = every
