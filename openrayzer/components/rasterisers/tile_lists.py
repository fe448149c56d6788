"""Lists of the Gaussians of each tile, front to back."""

from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Int
from torch import Tensor

from openrayzer.components.rasterisers.ellipses import Ellipses

COARSE = 16
"""Side in pixels of the tiles of gsplat 1.4.0, to which ``three_sigma`` refers."""


@dataclass(frozen=True)
class TileLists:
    """The Gaussians of each tile of a batch of images.

    Tiles are numbered by image, row and column; images by batch element and view.

    Attributes:
        members: positions of the Gaussians in the flattened axes (b, v, k): tile after tile, front to back in each.
        counts: number of Gaussians of each tile.
        grid: rows and columns of tiles of an image.
        side: side of a tile in pixels.
    """

    members: Int[Tensor, " entries"]
    counts: Int[Tensor, " tiles"]
    grid: tuple[int, int]
    side: int

    def origins(self) -> Int[Tensor, "2 tiles"]:
        """x and y of the upper left corner of each tile in pixels."""
        tiles = torch.arange(len(self.counts), device=self.counts.device)
        rows, columns = self.grid
        return self.side * torch.stack([tiles % columns, tiles // columns % rows])


@torch.no_grad()
def list_tiles(ellipses: Ellipses, image_size: tuple[int, int], *, side: int) -> TileLists:
    """The Gaussians that may change a pixel of each tile.

    Equal depths keep the order of the Gaussians. Depths are compared in float32.

    Args:
        ellipses: projected Gaussians.
        image_size: height and width in pixels.
        side: side of a tile in pixels, a divisor of ``COARSE``.
    """
    b, v, k = ellipses.depths.shape
    rows, columns = grid = (-(-image_size[0] // side), -(-image_size[1] // side))
    seen = front_to_back(ellipses)
    image = seen // k
    first, last = _tile_range(ellipses, grid, side)
    first, last = first.flatten(1).index_select(1, seen), last.flatten(1).index_select(1, seen)
    width, height = (last - first + 1).clamp(min=0)
    counts = width * height

    owner = torch.repeat_interleave(counts)
    begin = counts.cumsum(0) - counts
    place = torch.arange(len(owner), device=owner.device) - begin.index_select(0, owner)
    wide = width.index_select(0, owner)
    row = torch.div(place, wide, rounding_mode="floor")
    corner = (image * rows + first[1]) * columns + first[0]
    tile = corner.index_select(0, owner) + row * (columns - wide) + place
    tile, order = tile.int().sort(stable=True)
    members = seen.index_select(0, owner.index_select(0, order))
    return TileLists(members, torch.bincount(tile, minlength=b * v * rows * columns), grid, side)


def front_to_back(ellipses: Ellipses) -> Int[Tensor, " seen"]:
    """Positions of the visible Gaussians in the flattened axes (b, v, k), image by image, near first."""
    visible = rearrange(ellipses.radii[0] > 0, "b v k -> (b v) k")
    depths = rearrange(ellipses.depths, "b v k -> (b v) k").float()
    order = torch.where(visible, depths, torch.inf).sort(dim=1, stable=True).indices
    position = order + order.shape[1] * torch.arange(len(order), device=order.device)[:, None]
    return position[visible.gather(1, order)]


def _tile_range(
    ellipses: Ellipses, grid: tuple[int, int], side: int
) -> tuple[Int[Tensor, "2 b v k"], Int[Tensor, "2 b v k"]]:
    """Column and row of the first and the last tile that each Gaussian touches, both within the image."""
    centres, reach, radii = ellipses.centres, ellipses.reach, ellipses.radii
    first, last = ((centres - reach - 0.5).ceil() / side).floor(), ((centres + reach - 0.5).floor() / side).floor()
    if ellipses.extent == "three_sigma":
        each = COARSE // side
        first = torch.maximum(first, each * ((centres - radii) / COARSE).floor())
        last = torch.minimum(last, each * ((centres + radii) / COARSE).ceil() - 1)
    most = rearrange(first.new_tensor(grid[::-1]), "c -> c 1 1 1") - 1
    return torch.clamp(first, first.new_zeros(()), most + 1).long(), torch.clamp(last, -first.new_ones(()), most).long()
