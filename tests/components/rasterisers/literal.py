"""The published loops of a Gaussian rasteriser, pixel by pixel, and a stand-in for gsplat's functions made of them."""

from collections.abc import Sequence
from types import ModuleType

import torch
from torch import Tensor

from openrayzer.interfaces import Gaussians
from openrayzer.types import Cameras

Tile = tuple[slice, slice, list[int]]
"""Rows and columns of a tile, and its Gaussians front to back."""


def random_scene(
    *, b: int = 2, v: int = 2, k: int = 12, degree: int = 1, seed: int = 0, dtype: torch.dtype = torch.float32
) -> tuple[Gaussians, Cameras, Tensor]:
    """Overlapping Gaussians of all sizes before v cameras, and a background for each; all tensors need gradients."""
    generator = torch.Generator().manual_seed(seed)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    gaussians = Gaussians(
        means=(drawn(b, k, 3) * torch.tensor([0.8, 0.8, 0.7]) + torch.tensor([0.0, 0.0, 3.0])).to(dtype),
        scales=0.2 * (0.8 * drawn(b, k, 3)).exp(),
        rotations=drawn(b, k, 4),
        opacities=torch.sigmoid(2 * drawn(b, k)),
        harmonics=0.6 * drawn(b, k, (degree + 1) ** 2, 3),
    )
    c2w = torch.eye(4, dtype=dtype).repeat(b, v, 1, 1)
    c2w[..., :3, 3] = 0.2 * drawn(b, v, 3)
    intrinsics = (torch.tensor([0.9, 1.1, 0.45, 0.55]) + 0.05 * drawn(b, v, 4)).to(dtype)
    background = torch.rand(b, v, 3, generator=generator).to(dtype)
    for tensor in (*vars(gaussians).values(), c2w, intrinsics, background):
        tensor.requires_grad_()
    return gaussians, Cameras(c2w, intrinsics), background


def blended(
    centres: Tensor, conics: Tensor, values: Tensor, opacities: Tensor, size: tuple[int, int], tiles: Sequence[Tile]
) -> tuple[Tensor, Tensor]:
    """Sums of values (h, w, c) and passing light (h, w, 1): in each tile one Gaussian after the other.

    Args:
        centres: (k, 2) in pixels.
        conics: (k, 3).
        values: (k, c).
        opacities: (k,).
        size: height and width in pixels.
        tiles: rows and columns of each tile, and its Gaussians front to back.
    """
    height, width = size
    sums, passed = torch.zeros(height, width, values.shape[1], dtype=values.dtype), torch.ones(height, width, 1)
    for rows, columns, members in tiles:
        row, column = (torch.arange(side, dtype=values.dtype) + 0.5 for side in size)
        row, column = row[rows, None], column[columns]
        total, light = sums[rows, columns], passed[rows, columns].to(values.dtype)
        going = torch.ones_like(light, dtype=torch.bool)
        for member in members:
            x, y = centres[member, 0] - column, centres[member, 1] - row
            a, b, c = conics[member]
            alpha = (opacities[member] * torch.exp(-(a * x * x + c * y * y) / 2 - b * x * y)).clamp(max=0.999)[
                ..., None
            ]
            seen = alpha >= 1 / 255
            going = going & ~(seen & (light * (1 - alpha) <= 1e-4))
            share = torch.where(seen & going, alpha, 0.0)
            total, light = total + share * light * values[member], light * (1 - share)
        sums = sums.index_put((torch.arange(height)[rows, None], torch.arange(width)[columns]), total)
        passed = passed.to(light).index_put((torch.arange(height)[rows, None], torch.arange(width)[columns]), light)
    return sums, passed


def gsplat_stand_in() -> ModuleType:
    """A module with the functions of gsplat 1.5 that the rasteriser "gsplat" calls; they check their arguments."""
    module = ModuleType("gsplat")
    module.isect_tiles, module.isect_offset_encode = _isect_tiles, _isect_offset_encode  # type: ignore[attr-defined]
    module.rasterize_to_pixels = _rasterize_to_pixels  # type: ignore[attr-defined]
    return module


def _isect_tiles(
    means2d: Tensor, radii: Tensor, depths: Tensor, tile_size: int, tile_width: int, tile_height: int
) -> tuple[Tensor, Tensor, Tensor]:
    means2d, depths = means2d.detach(), depths.detach()
    images, k = depths.shape
    assert means2d.shape == radii.shape == (images, k, 2)
    assert radii.dtype == torch.int32
    assert means2d.dtype == depths.dtype == torch.float32
    found = []
    for image in range(images):
        for gaussian in range(k):
            if (radii[image, gaussian] <= 0).any():
                continue
            low = ((means2d[image, gaussian] - radii[image, gaussian]) / tile_size).floor().clamp(min=0).int()
            high = ((means2d[image, gaussian] + radii[image, gaussian]) / tile_size).ceil().int()
            for row in range(low[1], min(int(high[1]), tile_height)):
                for column in range(low[0], min(int(high[0]), tile_width)):
                    tile = (image * tile_height + row) * tile_width + column
                    found.append((tile, depths[image, gaussian].item(), image * k + gaussian))
    found.sort(key=lambda entry: entry[:2])
    tiles, members = torch.tensor([entry[0] for entry in found]), torch.tensor([entry[2] for entry in found])
    return torch.zeros(images, k, dtype=torch.int32), tiles, members.int()


def _isect_offset_encode(isect_ids: Tensor, n_images: int, tile_width: int, tile_height: int) -> Tensor:
    tiles = torch.arange(n_images * tile_height * tile_width)
    return torch.searchsorted(isect_ids.contiguous(), tiles).reshape(n_images, tile_height, tile_width).int()


def _rasterize_to_pixels(
    means2d: Tensor,
    conics: Tensor,
    colors: Tensor,
    opacities: Tensor,
    image_width: int,
    image_height: int,
    tile_size: int,
    isect_offsets: Tensor,
    flatten_ids: Tensor,
) -> tuple[Tensor, Tensor]:
    images, k = opacities.shape
    assert means2d.shape == (images, k, 2)
    assert conics.shape == (images, k, 3)
    assert colors.shape[:2] == (images, k)
    assert all(part.dtype == torch.float32 for part in (means2d, conics, colors, opacities))
    ends = [*isect_offsets.flatten().tolist(), len(flatten_ids)]
    _, rows, columns = isect_offsets.shape
    colours, alphas = [], []
    for image in range(images):
        tiles = []
        for row in range(rows):
            for column in range(columns):
                tile = (image * rows + row) * columns + column
                pixels = (slice(start * tile_size, (start + 1) * tile_size) for start in (row, column))
                tiles.append((*pixels, (flatten_ids[ends[tile] : ends[tile + 1]] - image * k).tolist()))
        size = (image_height, image_width)
        sums, passed = blended(means2d[image], conics[image], colors[image], opacities[image], size, tiles)
        colours.append(sums)
        alphas.append(1 - passed)
    return torch.stack(colours), torch.stack(alphas)
