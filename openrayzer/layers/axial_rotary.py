"""Axial rotary position encoding of image tokens; each head has its own frequencies."""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor

from openrayzer.layers.constants import cached
from openrayzer.layers.cosine_attention import ViewRotation
from openrayzer.layers.rotary import PlaneRotation

LOWEST, HIGHEST = math.pi, 10 * math.pi
"""Range of the frequencies, in radians per half of the longer image side. The range excludes HIGHEST."""

Spread = Literal["interleaved", "blocked"]
"""How heads share the heads * k frequencies in rising order.

"interleaved": head h takes frequencies h, h + heads, h + 2 heads, ... "blocked": head h takes frequencies h k to
(h + 1) k - 1.
"""


def axial_frequencies(
    num_heads: int, head_width: int, spread: Spread, device: torch.device
) -> Float[Tensor, "heads k"]:
    """Frequencies of each head, the same for rows and columns; k = head_width / 8.

    Frequency j of all heads * k is LOWEST (HIGHEST / LOWEST)^(j / (heads k)).

    Raises:
        ValueError: ``head_width`` is not a multiple of 8.

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
    """(y, x) of the centres of a grid's cells, row by row. The image centre is 0; the longer side spans -1 to 1."""
    y, x = ((2 * torch.arange(count, device=device) + 1 - count) / max(grid) for count in grid)
    return torch.stack([repeat(y, "y -> (y x)", x=grid[1]), repeat(x, "x -> (y x)", y=grid[0])], dim=-1)


def axial_rotation(
    coordinates: Float[Tensor, "*batch n 2"], *, num_heads: int, head_width: int, spread: Spread
) -> ViewRotation:
    """Rotation of queries and keys by the (y, x) of their tokens; tokens at (0, 0) stay the same.

    With k = head_width / 8, components i and i + 3k form a plane:

    | i        | angle          |
    |----------|----------------|
    | 0 to k   | 0 (time axis)  |
    | k to 2k  | y * frequency  |
    | 2k to 3k | x * frequency  |

    All tokens of a view have the same time, so the time axis rotates nothing. The last quarter of the head (2k
    components) carries no position. Angles are computed in float32 for every dtype of the heads.

    Args:
        coordinates: (y, x) of each token, as ``grid_coordinates`` gives them or, for example, in radians.
        num_heads: number of heads.
        head_width: width e of one head, a multiple of 8.
        spread: see ``Spread``.

    Source: RayDer; Su et al. 2021 (RoFormer), equation 34.
    """
    frequencies = axial_frequencies(num_heads, head_width, spread, coordinates.device)
    angles = rearrange(coordinates[..., None, None] * frequencies, "... n yx h k -> ... n h (yx k)")
    k = head_width // 8
    rotate_planes = PlaneRotation(F.pad(angles, (k, 0)))  # no angle for the time axis

    def rotate(heads: Float[Tensor, "*more heads e"]) -> Float[Tensor, "*more heads e"]:
        positional, rest = heads.split([6 * k, head_width - 6 * k], dim=-1)
        return torch.cat([rotate_planes(positional), rest], dim=-1)

    return rotate


@cached
def grid_rotation(
    grid: tuple[int, int], device: torch.device, *, register: bool, num_heads: int, head_width: int, spread: Spread
) -> ViewRotation:
    """``axial_rotation`` for the cells of a grid, row by row, then, with ``register``, for a register at the centre."""
    coordinates = F.pad(grid_coordinates(grid, device), (0, 0, 0, int(register)))
    return axial_rotation(coordinates, num_heads=num_heads, head_width=head_width, spread=spread)
