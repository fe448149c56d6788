"""Attention of each cell of a grid to the window around it, tile by tile."""

from contextlib import nullcontext
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Int
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from openrayzer.layers.constants import made_once
from openrayzer.layers.cosine_attention import Attend, Heads, KeyValue

Borders = Literal["own", "swapped"]
"""How windows stay inside the grid: by the number of rows and columns, or, as published, by each other's."""

MASKED = [SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
"""Kernels that take the mask on a GPU. cuDNN's may give gradients that are not finite (pytorch issue 196678)."""

TILE = 8
"""Side of a tile of queries; a tile and a window of 7 read 14 x 14 keys, of which a query sees a quarter."""


@made_once
def neighbourhood(grid: tuple[int, int], *, window: int, borders: Borders, device: torch.device) -> Attend:
    """Each token of a view sees those in the window around it, in its own view.

    At a border the window is moved inside, so that it always has ``window`` x ``window`` cells, or all there are.

    Args:
        grid: rows and columns; tokens come row by row.
        window: side of the window, odd.
        borders: "own" moves windows inside the grid. "swapped" takes the number of columns for the rows and that of
            rows for the columns, so that windows at the borders of images that are not square are cut or far away.
        device: of the queries.

    Source: Hassani et al. 2023, "Neighborhood Attention Transformer"; RayDer's released masks are "swapped", which is
    the same on square images.
    """
    limits = grid if borders == "own" else grid[::-1]
    rows, columns = (_Tiles(count, window, limit, device) for count, limit in zip(grid, limits, strict=True))
    seen = rearrange(rows.seen, "t q k -> t 1 q 1 k 1") & rearrange(columns.seen, "t q k -> 1 t 1 q 1 k")
    seen = rearrange(seen, "ty tx qy qx ky kx -> (ty tx) 1 (qy qx) (ky kx)")
    return partial(_attend, rows=rows, columns=columns, seen=seen)


def window_starts(count: int, window: int, limit: int, device: torch.device) -> Int[Tensor, " count"]:
    """First cell of the window of each of ``count`` cells in a row that is taken to be ``limit`` long; may be < 0."""
    radius = window // 2
    return torch.arange(count, device=device).clamp(min=radius, max=limit - 1 - radius) - radius


class _Tiles:
    """A row of cells cut into tiles.

    Attributes:
        count: number of cells.
        queries: cells of each tile (tiles, side); the last cell again and again where the last tile is too long.
        keys: cells that at least one of a tile's windows covers (tiles, reach).
        seen: whether a query's window covers a key (tiles, side, reach).
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


def _attend(query: Heads, shown: KeyValue, *, rows: _Tiles, columns: _Tiles, seen: Tensor) -> Heads:
    grid = (rows.count, columns.count)
    tiles = _tiled(query, grid, rows.queries, columns.queries)
    keys, values = (_tiled(x, grid, rows.keys, columns.keys) for x in (shown.key, shown.value))
    with sdpa_kernel(MASKED) if query.is_cuda else nullcontext():
        read = F.scaled_dot_product_attention(tiles, keys, values, attn_mask=seen)
    sizes = {"b": query.shape[0], "v": query.shape[1], "ty": rows.queries.shape[0], "y": rows.queries.shape[1]}
    sizes["tx"] = columns.queries.shape[0]
    read = rearrange(read, "(ty tx) (b v h) (y x) e -> b v (ty y) (tx x) h e", **sizes)
    return rearrange(read[:, :, : rows.count, : columns.count], "b v y x h e -> b v (y x) h e")


def _tiled(heads: Heads, grid: tuple[int, int], rows: Tensor, columns: Tensor) -> Tensor:
    """The cells of every tile, (tiles, batch and heads, cells, e): all that share a tile share its mask."""
    cells = rearrange(heads, "b v (y x) h e -> b v y x h e", y=grid[0])
    chosen = cells[:, :, rows[:, None, :, None], columns[None, :, None, :]]  # (b, v, ty, tx, y, x, h, e)
    return rearrange(chosen, "b v ty tx y x h e -> (ty tx) (b v h) (y x) e")
