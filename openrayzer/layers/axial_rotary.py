"""Rotary positions inside an image that turn a part of each head, with frequencies that differ between heads."""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor

from openrayzer.layers.constants import made_once
from openrayzer.layers.cosine_attention import ViewRotation
from openrayzer.layers.rotary import PlaneRotation

LOWEST, HIGHEST = math.pi, 10 * math.pi
"""Frequencies in radians per half of the longer image side; the highest itself is left out."""

Spread = Literal["interleaved", "blocked"]
"""Of heads * k frequencies in rising order, head h has every heads-th from h on, or those from h * k on."""


def axial_frequencies(
    num_heads: int, head_width: int, spread: Spread, device: torch.device
) -> Float[Tensor, "heads k"]:
    """Frequencies of each head, the same for rows and columns; k is an eighth of the head width.

    Raises:
        ValueError: the head width is no multiple of 8.

    Source: RayDer, after HDiT (Crowson et al. 2024), section 4.3.
    """
    if head_width % 8:
        raise ValueError(f"rotary positions need a head width that is a multiple of 8, got {head_width}")
    count = num_heads * (head_width // 8)
    exponents = torch.arange(count, dtype=torch.float32, device=device) / count
    frequencies = LOWEST * (HIGHEST / LOWEST) ** exponents
    layout = "(k h) -> h k" if spread == "interleaved" else "(h k) -> h k"
    return rearrange(frequencies, layout, h=num_heads)


def grid_coordinates(grid: tuple[int, int], device: torch.device) -> Float[Tensor, "n 2"]:
    """(y, x) of the centres of a grid's cells, row by row; the longer image side spans -1 to 1, the centre is 0."""
    y, x = ((2 * torch.arange(count, device=device) + 1 - count) / max(grid) for count in grid)
    return torch.stack([repeat(y, "y -> (y x)", x=grid[1]), repeat(x, "x -> (y x)", y=grid[0])], dim=-1)


def axial_rotation(
    coordinates: Float[Tensor, "*batch n 2"], *, num_heads: int, head_width: int, spread: Spread
) -> ViewRotation:
    """Turns heads by the (y, x) of their tokens; tokens at (0, 0) are not turned.

    With k an eighth of the head width, component i turns with component i + 3k: those from k to 2k by y, those from
    2k to 3k by x. Components 0 to k belong to the time axis, which is the same for all tokens of a view and so turns
    nothing, and the last quarter has no position. Angles are float32 whatever the dtype of the heads.

    Source: RayDer; Su et al. 2021 (RoFormer), equation 34.
    """
    frequencies = axial_frequencies(num_heads, head_width, spread, coordinates.device)
    angles = rearrange(coordinates[..., None, None] * frequencies, "... n yx h k -> ... n h (yx k)")
    k = head_width // 8
    rotate_planes = PlaneRotation(F.pad(angles, (k, 0)))  # no angle for the time axis

    def rotate(heads: Float[Tensor, "*more heads e"]) -> Float[Tensor, "*more heads e"]:
        turning, rest = heads.split([6 * k, head_width - 6 * k], dim=-1)
        return torch.cat([rotate_planes(turning), rest], dim=-1)

    return rotate


@made_once
def grid_rotation(
    grid: tuple[int, int], device: torch.device, *, register: bool, num_heads: int, head_width: int, spread: Spread
) -> ViewRotation:
    """``axial_rotation`` for the cells of a grid, row by row, and behind them a register at the centre if there is one."""
    coordinates = F.pad(grid_coordinates(grid, device), (0, 0, 0, int(register)))
    return axial_rotation(coordinates, num_heads=num_heads, head_width=head_width, spread=spread)
