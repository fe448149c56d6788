"""Hourglass transformer: attention within each view on fine grids, attention among views on one coarse grid."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate, pairwise
from operator import mul

import torch
from jaxtyping import Float
from torch import Tensor, nn

from openrayzer.interfaces import AttentionBackend
from openrayzer.layers.axial_rotary import Spread
from openrayzer.layers.cosine_attention import Attend, KeyValue, ViewRotation
from openrayzer.layers.init import init_by_inputs
from openrayzer.layers.merge import PatchColours, TokenMerge, TokenSplit
from openrayzer.layers.neighbourhood import Borders, neighbourhood
from openrayzer.layers.patches import PatchLinear, patch_grid
from openrayzer.layers.role_blocks import GlobalLocalBlock, GlobalLocalStack, LocalBlock, LocalStack
from openrayzer.layers.roles import RoleCode


@dataclass(frozen=True)
class Level:
    """A fine grid of tokens and its transformer blocks.

    Attributes:
        width: token width, a multiple of the head width.
        depth: number of blocks before the middle; the same number follows after it.
        patch: one token covers patch x patch cells of the next finer level, or pixels on the first level.
    """

    width: int
    depth: int
    patch: int


@dataclass(frozen=True)
class MiddleTokens:
    """Tokens of views after the blocks of the middle.

    Attributes:
        patches: patch tokens.
        registers: the register token of each view.
        skips: patch tokens after the first blocks of each level, finest level first, for the skip connections.
        keys_values: keys and values of attention among views, one entry for each block of the middle.
    """

    patches: Float[Tensor, "b v n d"]
    registers: Float[Tensor, "b v d"]
    skips: list[Tensor]
    keys_values: list[KeyValue]


class Hourglass(nn.Module):
    """Patch embedding, levels from fine to coarse, global-local blocks, levels from coarse to fine, colours.

    Images and rays are mapped to tokens by two linear maps. Tokens of a view with image and rays are the sum of both.

    Args:
        levels: finer grids, finest first; may be empty.
        width: token width d in the middle.
        depth: number of blocks in the middle.
        patch: one token of the middle covers patch x patch cells of the last level.
        head_width: width of one attention head, on all levels.
        code_width: width of the role codes, see ``roles``.
        mlp_ratio: hidden width of the feed-forward layers, in token widths.
        window: side of the neighbourhood that a token sees on a fine level, in cells; odd.
        borders: see ``neighbourhood``.
        spread: see ``axial_frequencies``.

    Raises:
        ValueError: ``window`` is even or below 1.

    Source: RayDer; the hourglass shape is from Crowson et al. 2024, "Scalable High-Resolution Pixel-Space Image
    Synthesis with Hourglass Diffusion Transformers".
    """

    def __init__(
        self,
        *,
        levels: Sequence[Level],
        width: int,
        depth: int,
        patch: int,
        head_width: int,
        code_width: int,
        mlp_ratio: float,
        window: int,
        borders: Borders,
        spread: Spread,
    ) -> None:
        super().__init__()
        if window < 1 or window % 2 == 0:
            raise ValueError(f"window must be odd and above 0, got {window}")
        self.window, self.borders = window, borders
        patches = [*(level.patch for level in levels), patch]
        widths = [*(level.width for level in levels), width]
        self.strides = list(accumulate(patches, mul))
        local = partial(LocalBlock, head_width=head_width, code_width=code_width, mlp_ratio=mlp_ratio)
        middle = partial(GlobalLocalBlock, head_width=head_width, code_width=code_width, mlp_ratio=mlp_ratio)

        def level_stack(level: Level) -> LocalStack:
            blocks = [local(width=level.width) for _ in range(level.depth)]
            return LocalStack(blocks, width=level.width, head_width=head_width, spread=spread)

        self.image_patches = PatchLinear(channels=3, patch_size=patches[0], width=widths[0])
        self.ray_patches = PatchLinear(channels=6, patch_size=patches[0], width=widths[0])
        steps = list(zip(pairwise(widths), patches[1:], strict=True))
        self.merges = nn.ModuleList(TokenMerge(widths=(fine, coarse), patch=side) for (fine, coarse), side in steps)
        self.down = nn.ModuleList(map(level_stack, levels))
        self.middle = GlobalLocalStack(
            [middle(width=width) for _ in range(depth)], width=width, head_width=head_width, spread=spread
        )
        self.splits = nn.ModuleList(TokenSplit(widths=(coarse, fine), patch=side) for (fine, coarse), side in steps)
        self.up = nn.ModuleList(map(level_stack, levels))
        for linear in (self.image_patches, self.ray_patches, self.merges, self.splits):
            init_by_inputs(linear)
        self.colours = PatchColours(width=widths[0], patch_size=patches[0])

    def grids(self, image_size: tuple[int, int]) -> list[tuple[int, int]]:
        """Rows and columns of each level, finest first, then of the middle.

        Raises:
            ValueError: height or width is not a multiple of the total stride, ``strides[-1]``.
        """
        patch_grid(image_size, self.strides[-1])
        return [patch_grid(image_size, stride) for stride in self.strides]

    def descend(
        self,
        tokens: Float[Tensor, "b v n fine"],
        registers: Float[Tensor, "b v d"],
        image_size: tuple[int, int],
        code: RoleCode,
        attend_per_block: Sequence[Attend],
        rotate_among_views: ViewRotation,
        backend: AttentionBackend,
    ) -> MiddleTokens:
        """Tokens after the levels from fine to coarse and the blocks of the middle.

        Args:
            tokens: tokens of the finest grid.
            registers: one register token per view, for the middle.
            image_size: height and width in pixels.
            code: code of the role of the views, or of roles that alternate between views.
            attend_per_block: attention among views, one entry for each block of the middle.
            rotate_among_views: position encoding of the attention among views.
            backend: computes the attention within each view.
        """
        *grids, middle = self.grids(image_size)
        skips = []
        for stack, merge, grid in zip(self.down, self.merges, grids, strict=True):
            tokens = stack(tokens, code, grid, self._attend(grid, tokens))
            skips.append(tokens)
            tokens = merge(tokens, grid)
        tokens = torch.cat([tokens, registers.to(tokens.dtype)[:, :, None]], dim=2)
        tokens, keys_values = self.middle(tokens, code, middle, attend_per_block, rotate_among_views, backend)
        return MiddleTokens(tokens[:, :, :-1], tokens[:, :, -1], skips, keys_values)

    def ascend(self, middle: MiddleTokens, image_size: tuple[int, int], code: RoleCode) -> Float[Tensor, "b v 3 h w"]:
        """Colours of views after the levels from coarse to fine; -1 is black and 1 is white."""
        tokens = middle.patches
        steps = list(zip(self.splits, self.up, middle.skips, self.grids(image_size)[:-1], strict=True))
        for split, stack, skip, grid in reversed(steps):
            tokens = stack(split(tokens, skip, grid), code, grid, self._attend(grid, tokens))
        return self.colours(tokens, image_size)

    def _attend(self, grid: tuple[int, int], tokens: Tensor) -> Attend:
        return neighbourhood(grid, window=self.window, borders=self.borders, device=tokens.device)
