"""Blocks whose norms know the role of their tokens, and runs of them."""

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
    """Attention inside a view, then feed-forward."""

    def __init__(self, *, width: int, head_width: int, code_width: int, mlp_ratio: float) -> None:
        super().__init__()
        self.attention_norm = RoleNorm(width, code_width)
        self.attention = CosineAttention(width=width, head_width=head_width)
        self.mlp_norm = RoleNorm(width, code_width)
        self.mlp = SwiGLU(width=width, ratio=mlp_ratio)

    def gains(self, code: RoleCode) -> list[Gains]:
        """Gains of the norms, in order. They do not depend on tokens, so a recomputed block keeps them."""
        return [self.attention_norm(code), self.mlp_norm(code)]

    def forward(
        self, tokens: Float[Tensor, "b v n d"], gains: list[Gains], attend: Attend, rotate: ViewRotation
    ) -> Float[Tensor, "b v n d"]:
        tokens = tokens + self.attention(normalise(tokens, gains[0]), attend, rotate)[0]
        return tokens + self.mlp(normalise(tokens, gains[1]))


class GlobalLocalBlock(nn.Module):
    """Attention among views, attention inside each view, feed-forward.

    The last token of each view is its register, which has norms of its own and everything else in common.

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
        """As those of ``LocalBlock``."""
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
        """The tokens, and what they showed to other views."""
        read, shown = self.global_attention(normalise(tokens, gains[0]), attend_among_views, rotate_among_views)
        tokens = tokens + read
        tokens = tokens + self.local_attention(normalise(tokens, gains[1]), attend_within_view, rotate_within_view)[0]
        return tokens + self.mlp(normalise(tokens, gains[2])), shown


class RoleStack(Stack):
    """Blocks that start as the identity: what ends a residual branch is zero.

    Args:
        blocks: of one width.
        width: token width d.
        head_width: width of one head.
        spread: see ``axial_frequencies``.
    """

    def __init__(self, blocks: Sequence[nn.Module], *, width: int, head_width: int, spread: Spread) -> None:
        super().__init__(blocks, width=width)
        init_by_inputs(self)
        for part in self.modules():
            if isinstance(part, CosineAttention | SwiGLU):
                nn.init.zeros_(part.out.weight)
        self.num_heads, self.head_width, self.spread = num_heads_of(width, head_width), head_width, spread
        axial_frequencies(
            self.num_heads, head_width, spread, torch.device("cpu")
        )  # refuses a head width now, not later

    def rotation(self, coordinates: Float[Tensor, "*batch n 2"]) -> ViewRotation:
        """What attention of these blocks does to queries and keys of tokens at (y, x)."""
        return axial_rotation(coordinates, num_heads=self.num_heads, head_width=self.head_width, spread=self.spread)

    def rotation_within_views(self, grid: tuple[int, int], device: torch.device, *, register: bool) -> ViewRotation:
        """The same for the tokens of each view, with or without a learned register token."""
        return grid_rotation(
            grid, device, register=register, num_heads=self.num_heads, head_width=self.head_width, spread=self.spread
        )


class LocalStack(RoleStack):
    """Local blocks on the patch tokens of views, each token seeing its neighbours."""

    def forward(
        self, tokens: Float[Tensor, "b v n d"], code: RoleCode, grid: tuple[int, int], attend: Attend
    ) -> Float[Tensor, "b v n d"]:
        rotate = self.rotation_within_views(grid, tokens.device, register=False)
        for number in range(len(self.blocks)):
            gains = cast(LocalBlock, self.blocks[number]).gains(code)
            tokens = self.run(number, tokens, gains, attend, rotate)
        return tokens


class GlobalLocalStack(RoleStack):
    """Global-local blocks on the patch tokens and the register of views."""

    def forward(
        self,
        tokens: Float[Tensor, "b v n d"],
        code: RoleCode,
        grid: tuple[int, int],
        attend_per_block: Sequence[Attend],
        rotate_among_views: ViewRotation,
        backend: AttentionBackend,
    ) -> tuple[Float[Tensor, "b v n d"], list[KeyValue]]:
        """The tokens, and what they showed to other views in each block.

        Args:
            tokens: patch tokens row by row, then the register, which lies at the centre of the image.
            code: of the role that the views play, or of the roles that they play in turn.
            grid: rows and columns of patches.
            attend_per_block: whom each block's attention among views sees.
            rotate_among_views: what it does to queries and keys.
            backend: computes the attention inside a view.
        """
        rotate_within_view = self.rotation_within_views(grid, tokens.device, register=True)
        shown: list[KeyValue] = []
        for number, attend in enumerate(attend_per_block):
            gains = cast(GlobalLocalBlock, self.blocks[number]).gains(code)
            tokens, here = self.run(
                number, tokens, gains, attend, rotate_among_views, own_view(backend), rotate_within_view
            )
            shown.append(here)
        return tokens, shown
