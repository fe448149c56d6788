"""Transformer blocks with norms that depend on the role of the views, and stacks of these blocks."""

from collections.abc import Sequence
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from openrayzer.interfaces import AttentionBackend
from openrayzer.layers.axial_rotary import Spread, axial_frequencies, axial_rotation, grid_rotation
from openrayzer.layers.cosine_attention import Attend, CosineAttention, KeyValue, ViewRotation, num_heads_of
from openrayzer.layers.init import init_by_inputs
from openrayzer.layers.roles import Gains, RegisterNorm, RoleCode, RoleNorm, normalise
from openrayzer.layers.stack import Stack
from openrayzer.layers.swiglu import SwiGLU
from openrayzer.layers.view_attention import own_view


class LocalBlock(nn.Module):
    """Pre-norm block: attention within each view, then feed-forward.

    Args:
        width: token width d.
        head_width: width of one attention head.
        code_width: width of the role codes.
        mlp_ratio: hidden width of the feed-forward layer, in token widths.
    """

    def __init__(self, *, width: int, head_width: int, code_width: int, mlp_ratio: float) -> None:
        super().__init__()
        self.attention_norm = RoleNorm(width, code_width)
        self.attention = CosineAttention(width=width, head_width=head_width)
        self.mlp_norm = RoleNorm(width, code_width)
        self.mlp = SwiGLU(width=width, ratio=mlp_ratio)

    def gains(self, code: RoleCode) -> list[Gains]:
        """Gains of the norms, in order. They do not depend on tokens, so activation checkpointing keeps them."""
        return [self.attention_norm(code), self.mlp_norm(code)]

    def forward(
        self, tokens: Float[Tensor, "b v n d"], gains: list[Gains], attend: Attend, rotate: ViewRotation
    ) -> Float[Tensor, "b v n d"]:
        tokens = tokens + self.attention(normalise(tokens, gains[0]), attend, rotate)[0]
        return tokens + self.mlp(normalise(tokens, gains[1]))


class GlobalLocalBlock(nn.Module):
    """Pre-norm block: attention among views, attention within each view, feed-forward.

    The last token of each view is its register. Registers have their own norms and share all other weights with
    patch tokens.

    Args:
        width: token width d.
        head_width: width of one attention head.
        code_width: width of the role codes.
        mlp_ratio: hidden width of the feed-forward layer, in token widths.

    Source: RayDer, middle layers.
    """

    def __init__(self, *, width: int, head_width: int, code_width: int, mlp_ratio: float) -> None:
        super().__init__()
        self.global_norm = RegisterNorm(width, code_width)
        self.global_attention = CosineAttention(width=width, head_width=head_width)
        self.local_norm = RegisterNorm(width, code_width)
        self.local_attention = CosineAttention(width=width, head_width=head_width)
        self.mlp_norm = RegisterNorm(width, code_width)
        self.mlp = SwiGLU(width=width, ratio=mlp_ratio)

    def gains(self, code: RoleCode) -> list[Gains]:
        """Gains of the norms, in order; see ``LocalBlock``."""
        return [self.global_norm(code), self.local_norm(code), self.mlp_norm(code)]

    def forward(
        self,
        tokens: Float[Tensor, "b v n d"],
        gains: list[Gains],
        attend_among_views: Attend,
        rotate_among_views: ViewRotation,
        attend_within_view: Attend,
        rotate_within_view: ViewRotation,
    ) -> tuple[Float[Tensor, "b v n d"], KeyValue]:
        """The tokens, and the keys and values of the attention among views."""
        read, keys_values = self.global_attention(normalise(tokens, gains[0]), attend_among_views, rotate_among_views)
        tokens = tokens + read
        tokens = tokens + self.local_attention(normalise(tokens, gains[1]), attend_within_view, rotate_within_view)[0]
        return tokens + self.mlp(normalise(tokens, gains[2])), keys_values


class RoleStack(Stack):
    """Blocks that start as the identity: the last layer of each residual branch starts at zero.

    Args:
        blocks: blocks of one width.
        width: token width d.
        head_width: width of one attention head, a multiple of 8.
        spread: see ``axial_frequencies``.
    """

    def __init__(self, blocks: Sequence[nn.Module], *, width: int, head_width: int, spread: Spread) -> None:
        super().__init__(blocks, width=width)
        init_by_inputs(self)
        for part in self.modules():
            if isinstance(part, CosineAttention | SwiGLU):
                nn.init.zeros_(part.out.weight)
        self.num_heads, self.head_width, self.spread = num_heads_of(width, head_width), head_width, spread
        axial_frequencies(self.num_heads, head_width, spread, torch.device("cpu"))  # checks the head width

    def rotation(self, coordinates: Float[Tensor, "*batch n 2"]) -> ViewRotation:
        """Position encoding for the attention of these blocks, for tokens at (y, x); see ``axial_rotation``."""
        return axial_rotation(coordinates, num_heads=self.num_heads, head_width=self.head_width, spread=self.spread)

    def rotation_within_views(self, grid: tuple[int, int], device: torch.device, *, register: bool) -> ViewRotation:
        """Position encoding of each view's patch tokens and, with ``register``, of the register token after them."""
        return grid_rotation(
            grid, device, register=register, num_heads=self.num_heads, head_width=self.head_width, spread=self.spread
        )


class LocalStack(RoleStack):
    """Stack of ``LocalBlock`` on the patch tokens of views."""

    def forward(
        self, tokens: Float[Tensor, "b v n d"], code: RoleCode, grid: tuple[int, int], attend: Attend
    ) -> Float[Tensor, "b v n d"]:
        rotate = self.rotation_within_views(grid, tokens.device, register=False)
        for number in range(len(self.blocks)):
            gains = cast(LocalBlock, self.blocks[number]).gains(code)
            tokens = self.run(number, tokens, gains, attend, rotate)
        return tokens


class GlobalLocalStack(RoleStack):
    """Stack of ``GlobalLocalBlock`` on the patch tokens and the register of each view."""

    def forward(
        self,
        tokens: Float[Tensor, "b v n d"],
        code: RoleCode,
        grid: tuple[int, int],
        attend_per_block: Sequence[Attend],
        rotate_among_views: ViewRotation,
        backend: AttentionBackend,
    ) -> tuple[Float[Tensor, "b v n d"], list[KeyValue]]:
        """The tokens, and the keys and values of the attention among views in each block.

        Args:
            tokens: patch tokens row by row, then the register. Its position is the centre of the image.
            code: code of the role of the views, or of roles that alternate between views.
            grid: rows and columns of patches.
            attend_per_block: attention among views, one entry for each block.
            rotate_among_views: position encoding of the attention among views.
            backend: computes the attention within each view.
        """
        rotate_within_view = self.rotation_within_views(grid, tokens.device, register=True)
        keys_values: list[KeyValue] = []
        for number, attend in enumerate(attend_per_block):
            gains = cast(GlobalLocalBlock, self.blocks[number]).gains(code)
            tokens, here = self.run(
                number, tokens, gains, attend, rotate_among_views, own_view(backend), rotate_within_view
            )
            keys_values.append(here)
        return tokens, keys_values
