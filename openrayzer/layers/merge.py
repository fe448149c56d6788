"""Merging of tokens to a coarser grid, splitting to a finer one, and the map from tokens to colours."""

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from openrayzer.layers.patches import unpatchify
from openrayzer.layers.rms_norm import RMSNorm


class TokenMerge(nn.Module):
    """Linear map without bias from a square of tokens to one token of a coarser grid.

    The input of the map lists the tokens of a square row by row, each with all its channels.

    Args:
        widths: token widths before and after.
        patch: side of the square in cells.

    Source: HDiT (Crowson et al. 2024), section 4.4, as in RayDer.
    """

    def __init__(self, *, widths: tuple[int, int], patch: int) -> None:
        super().__init__()
        self.patch = patch
        self.linear = nn.Linear(widths[0] * patch**2, widths[1], bias=False)

    def forward(self, tokens: Float[Tensor, "b v n fine"], grid: tuple[int, int]) -> Float[Tensor, "b v m coarse"]:
        """Tokens of the coarser grid; ``grid`` gives rows and columns of the finer one."""
        squares = "b v (y p x q) c -> b v (y x) (p q c)"
        return self.linear(rearrange(tokens, squares, p=self.patch, q=self.patch, y=grid[0] // self.patch))


class TokenSplit(nn.Module):
    """Inverse of ``TokenMerge`` with a skip connection: skip + share * (split - skip), with one learned share.

    Args:
        widths: token widths before and after.
        patch: side of the square in cells.
    """

    def __init__(self, *, widths: tuple[int, int], patch: int) -> None:
        super().__init__()
        self.patch = patch
        self.linear = nn.Linear(widths[0], widths[1] * patch**2, bias=False)
        self.share = nn.Parameter(torch.full((1,), 0.5))

    def forward(
        self, tokens: Float[Tensor, "b v m coarse"], skip: Float[Tensor, "b v n fine"], grid: tuple[int, int]
    ) -> Float[Tensor, "b v n fine"]:
        """Tokens of the finer grid.

        Args:
            tokens: tokens of the coarser grid.
            skip: earlier tokens of the finer grid.
            grid: rows and columns of the finer grid.
        """
        squares = "b v (y x) (p q c) -> b v (y p x q) c"
        fine = rearrange(self.linear(tokens), squares, p=self.patch, q=self.patch, y=grid[0] // self.patch)
        return skip + self.share.to(fine.dtype) * (fine - skip)


class PatchColours(nn.Module):
    """Tokens to the colours of their patches: RMSNorm, then a linear map without bias that starts at zero.

    -1 is black and 1 is white; the colours have no bounds.

    Args:
        width: token width d.
        patch_size: side of a patch in pixels.

    Source: RayDer.
    """

    def __init__(self, *, width: int, patch_size: int) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.norm = RMSNorm(width)
        self.linear = nn.Linear(width, 3 * patch_size**2, bias=False)
        nn.init.zeros_(self.linear.weight)

    def forward(self, tokens: Float[Tensor, "b v n d"], image_size: tuple[int, int]) -> Float[Tensor, "b v 3 h w"]:
        """Colours in float32; ``image_size`` is height and width in pixels."""
        values = self.linear(self.norm(tokens).to(tokens.dtype)).float()
        return unpatchify(values, image_size, self.patch_size)
