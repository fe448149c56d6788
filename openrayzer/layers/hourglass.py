"""A transformer that works on fine grids inside views and on one coarse grid among views."""

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
    """A fine grid and the blocks that work on it, on the way down and on the way up.

    Attributes:
        width: token width, a multiple of the head width.
        depth: blocks on the way down, and as many on the way up.
        patch: side of the square of finer cells, or of pixels on the first level, that make one token.
    """

    width: int
    depth: int
    patch: int


@dataclass(frozen=True)
class MiddleTokens:
    """Views after the middle.

    Attributes:
        patches: patch tokens.
        registers: the register of each view.
        skips: patch tokens as they left each level on the way down, finest first.
        keys_values: what the views showed to others in each block of the middle.
    """

    patches: Float[Tensor, "b v n d"]
    registers: Float[Tensor, "b v d"]
    skips: list[Tensor]
    keys_values: list[KeyValue]


class Hourglass(nn.Module):
    """Patches of pixels, levels down, global-local blocks, levels up, colours.

    Images and rays have linear maps of their own to tokens; tokens of a view that has both are the sum.

    Args:
        levels: from the finest grid on; may be none.
        width: token width d in the middle.
        depth: blocks in the middle.
        patch: side of the square of cells of the last level that make one token of the middle.
        head_width: width of one head, everywhere.
        code_width: width of the roles' codes.
        mlp_ratio: hidden width of the feed-forward layers, in token widths.
        window: side of the neighbourhood that a token sees on a level.
        borders: see ``neighbourhood``.
        spread: see ``axial_frequencies``.

    Source: RayDer; Crowson et al. 2024, "Scalable High-Resolution Pixel-Space Image Synthesis with Hourglass Diffusion
    Transformers", for the shape.
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
        """Rows and columns on each level, finest first, and in the middle.

        Raises:
            ValueError: the image size is no multiple of the total stride.
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
        """Down to the middle and through it.

        Args:
            tokens: what the views' patches say, on the finest grid.
            registers: one further token of the middle per view.
            image_size: height and width in pixels.
            code: of the role that the views play, or of the roles that they play in turn.
            attend_per_block: whom each middle block's attention among views sees.
            rotate_among_views: what it does to queries and keys.
            backend: computes the attention inside a view.
        """
        *grids, middle = self.grids(image_size)
        fine = []
        for stack, merge, grid in zip(self.down, self.merges, grids, strict=True):
            tokens = stack(tokens, code, grid, self._attend(grid, tokens))
            fine.append(tokens)
            tokens = merge(tokens, grid)
        tokens = torch.cat([tokens, registers.to(tokens.dtype)[:, :, None]], dim=2)
        tokens, shown = self.middle(tokens, code, middle, attend_per_block, rotate_among_views, backend)
        return MiddleTokens(tokens[:, :, :-1], tokens[:, :, -1], fine, shown)

    def ascend(self, middle: MiddleTokens, image_size: tuple[int, int], code: RoleCode) -> Float[Tensor, "b v 3 h w"]:
        """Up again: the colours of views, -1 for black and 1 for white."""
        tokens = middle.patches
        steps = list(zip(self.splits, self.up, middle.skips, self.grids(image_size)[:-1], strict=True))
        for split, stack, fine, grid in reversed(steps):
            tokens = stack(split(tokens, fine, grid), code, grid, self._attend(grid, tokens))
        return self.colours(tokens, image_size)

    def _attend(self, grid: tuple[int, int], tokens: Tensor) -> Attend:
        return neighbourhood(grid, window=self.window, borders=self.borders, device=tokens.device)
