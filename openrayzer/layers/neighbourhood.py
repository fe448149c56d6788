"""Neighbourhood attention: each cell of a grid attends to a window around it."""

from contextlib import nullcontext
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Int
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from openrayzer.layers.constants import cached
from openrayzer.layers.cosine_attention import Attend, Heads, KeyValue

Borders = Literal["own", "swapped"]
"""How windows stay inside the grid, see ``neighbourhood``."""

MASKED = [SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
"""Kernels for masked attention on a GPU. With cuDNN's kernel, gradients may not be finite (pytorch issue 196678)."""

TILE = 8
"""Side of a tile of queries in cells. With a window of 7, a tile reads 14 x 14 keys; a query sees a quarter of them."""


@cached
def neighbourhood(grid: tuple[int, int], *, window: int, borders: Borders, device: torch.device) -> Attend:
    """Each token sees the tokens of its own view in a window around it.

    At a border the window moves inside the grid. It always has window x window cells, or the whole side of a grid that
    is shorter than the window.

    Args:
        grid: rows and columns; tokens come row by row.
        window: side of the window in cells, odd.
        borders: "own" moves windows inside the grid. "swapped", as in RayDer's released code, exchanges the number of
            rows and the number of columns for this. On square images both are equal. On other images, windows at
            borders are cut or lie far from their token.
        device: device of the queries.

    Source: Hassani et al. 2023, "Neighborhood Attention Transformer".
    """
    limits = grid if borders == "own" else grid[::-1]
    rows, columns = (_Tiles(count, window, limit, device) for count, limit in zip(grid, limits, strict=True))
    seen = rearrange(rows.seen, "t q k -> t 1 q 1 k 1") & rearrange(columns.seen, "t q k -> 1 t 1 q 1 k")
    seen = rearrange(seen, "ty tx qy qx ky kx -> (ty tx) 1 (qy qx) (ky kx)")
    return partial(_attend, rows=rows, columns=columns, seen=seen)


def window_starts(count: int, window: int, limit: int, device: torch.device) -> Int[Tensor, " count"]:
    """First cell of the window around each of ``count`` cells, if the row were ``limit`` long; it may be negative."""
    radius = window // 2
    return torch.arange(count, device=device).clamp(min=radius, max=limit - 1 - radius) - radius


class _Tiles:
    """A row of cells cut into tiles.

    Attributes:
        count: number of cells.
        queries: cells of each tile, (tiles, side). The last cell fills up the last tile.
        keys: cells that the windows of a tile cover, (tiles, reach).
        seen: True where the window of a query covers a key, (tiles, side, reach).
    """

    def __init__(self, count: int, window: int, limit: int, device: torch.device) -> None:
        self.count = count
        side = min(TILE, count)
        reach = min(count, side + window - 1)
        cells = torch.arange(-(-count // side) * side, device=device).clamp(max=count - 1)
        self.queries = rearrange(cells, "(tiles side) -> tiles side", side=side)
        starts = window_starts(count, window, limit, device)[self.queries]
        self.keys = starts[:, :1].clamp(min=0, max=count - reach) + torch.arange(reach, device=device)
        offset = self.keys[:, None, :] - starts[:, :, None]
        self.seen = (offset >= 0) & (offset < window)


def _attend(query: Heads, keys_values: KeyValue, *, rows: _Tiles, columns: _Tiles, seen: Tensor) -> Heads:
    grid = (rows.count, columns.count)
    tiles = _tiled(query, grid, rows.queries, columns.queries)
    keys, values = (_tiled(x, grid, rows.keys, columns.keys) for x in (keys_values.key, keys_values.value))
    with sdpa_kernel(MASKED) if query.is_cuda else nullcontext():
        read = F.scaled_dot_product_attention(tiles, keys, values, attn_mask=seen)
    sizes = {"b": query.shape[0], "v": query.shape[1], "ty": rows.queries.shape[0], "y": rows.queries.shape[1]}
    sizes["tx"] = columns.queries.shape[0]
    read = rearrange(read, "(ty tx) (b v h) (y x) e -> b v (ty y) (tx x) h e", **sizes)
    return rearrange(read[:, :, : rows.count, : columns.count], "b v y x h e -> b v (y x) h e")


def _tiled(heads: Heads, grid: tuple[int, int], rows: Tensor, columns: Tensor) -> Tensor:
    """The cells of each tile, (tiles, b v h, cells, e). Batch elements, views and heads share the mask of a tile."""
    cells = rearrange(heads, "b v (y x) h e -> b v y x h e", y=grid[0])
    chosen = cells[:, :, rows[:, None, :, None], columns[None, :, None, :]]  # (b, v, ty, tx, y, x, h, e)
    return rearrange(chosen, "b v ty tx y x h e -> (ty tx) (b v h) (y x) e")
