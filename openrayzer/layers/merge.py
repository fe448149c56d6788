"""Between grids of tokens: several cells to one and back, and tokens to colours."""

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from openrayzer.layers.patches import unpatchify
from openrayzer.layers.rms_norm import RMSNorm


class TokenMerge(nn.Module):
    """One linear map, without bias, from a square of cells to a token of a coarser grid.

    Args:
        widths: of the tokens before and after.
        patch: side of the square in cells.

    Source: HDiT (Crowson et al. 2024), section 4.4, as RayDer; within a square: row, column, then channel.
    """

    def __init__(self, *, widths: tuple[int, int], patch: int) -> None:
        super().__init__()
        self.patch = patch
        self.linear = nn.Linear(widths[0] * patch**2, widths[1], bias=False)

    def forward(self, tokens: Float[Tensor, "b v n fine"], grid: tuple[int, int]) -> Float[Tensor, "b v m coarse"]:
        """``grid``: rows and columns of the finer grid."""
        squares = "b v (y p x q) c -> b v (y x) (p q c)"
        return self.linear(rearrange(tokens, squares, p=self.patch, q=self.patch, y=grid[0] // self.patch))


class TokenSplit(nn.Module):
    """The way back, mixed with the tokens that were there: skip + share * (split - skip), one learned share.

    Args:
        widths: of the tokens before and after.
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
        """``grid``: rows and columns of the finer grid."""
        squares = "b v (y x) (p q c) -> b v (y p x q) c"
        fine = rearrange(self.linear(tokens), squares, p=self.patch, q=self.patch, y=grid[0] // self.patch)
        return skip + self.share.to(fine.dtype) * (fine - skip)


class PatchColours(nn.Module):
    """Tokens to the colours of their patches: RMSNorm and a linear map without bias that starts at zero.

    Source: RayDer; nothing bounds the colours, which are -1 for black and 1 for white.
    """

    def __init__(self, *, width: int, patch_size: int) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.norm = RMSNorm(width)
        self.linear = nn.Linear(width, 3 * patch_size**2, bias=False)
        nn.init.zeros_(self.linear.weight)

    def forward(self, tokens: Float[Tensor, "b v n d"], image_size: tuple[int, int]) -> Float[Tensor, "b v 3 h w"]:
        """Colours in float32."""
        values = self.linear(self.norm(tokens).to(tokens.dtype)).float()
        return unpatchify(values, image_size, self.patch_size)
