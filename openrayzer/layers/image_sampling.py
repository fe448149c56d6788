"""Images as functions of position: grids of points, resizing, blurring, bilinear sampling.

Isotropic image coordinates are pixels from the middle of the image, x right and y down, divided by sqrt(h * w). A
square image covers [-0.5, 0.5]; other images cover ``extent`` units along x and y.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor


def extent(image_size: tuple[int, int]) -> tuple[float, float]:
    """Width and height of an image in isotropic coordinates; their product is 1."""
    height, width = image_size
    return (width / height) ** 0.5, (height / width) ** 0.5


def extent_of(image_size: tuple[int, int], like: Tensor) -> Float[Tensor, "2"]:
    """``extent`` as a tensor of the dtype and on the device of ``like``, without a copy from the host."""
    return torch.cat([like.new_full((1,), length) for length in extent(image_size)])


def working_size(image_size: tuple[int, int], side: int, multiple: int) -> tuple[int, int]:
    """The size with the aspect ratio of ``image_size`` and about ``side * side`` pixels; both sides are multiples."""
    wide, high = extent(image_size)
    return tuple(max(1, round(side * length / multiple)) * multiple for length in (high, wide))  # type: ignore[return-value]


def image_points(
    image_size: tuple[int, int], grid: tuple[int, int], device: torch.device | str, dtype: torch.dtype = torch.float32
) -> Float[Tensor, "rows cols 2"]:
    """Isotropic coordinates (x, y) of the centres of the cells of a grid that divides the image."""
    axes = [
        ((torch.arange(count, device=device, dtype=dtype) + 0.5) / count - 0.5) * length
        for count, length in zip(grid, reversed(extent(image_size)), strict=True)
    ]
    y, x = torch.meshgrid(axes[0], axes[1], indexing="ij")
    return torch.stack([x, y], dim=-1)


def resized(images: Float[Tensor, "n c h w"], size: tuple[int, int]) -> Float[Tensor, "n c rows cols"]:
    """Images of another size: averages of areas, or linear interpolation where a side grows."""
    if (images.shape[-2], images.shape[-1]) == size:
        return images
    if images.shape[-2] >= size[0] and images.shape[-1] >= size[1]:
        return F.interpolate(images, size, mode="area")
    return F.interpolate(images, size, mode="bilinear", align_corners=False)


def blurred(images: Float[Tensor, "n c h w"], sigma: float) -> Float[Tensor, "n c h w"]:
    """Images after a Gaussian blur of ``sigma`` pixels; the border is repeated. ``sigma`` 0 changes nothing."""
    if sigma == 0:
        return images
    radius, channels = max(1, int(2.5 * sigma)), images.shape[1]
    steps = torch.arange(-radius, radius + 1, dtype=images.dtype, device=images.device)
    kernel = torch.exp(-steps.square() / (2 * sigma**2))
    kernel = kernel / kernel.sum()
    for pad, shape in (([radius, radius, 0, 0], (1, 1, 1, -1)), ([0, 0, radius, radius], (1, 1, -1, 1))):
        filters = kernel.view(shape).expand(channels, *(-1 if side == -1 else 1 for side in shape[1:]))
        images = F.conv2d(F.pad(images, pad, mode="replicate"), filters, groups=channels)
    return images


def with_gradients(images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n channels h w"]:
    """Images (c), their derivatives along x (c) and y (c) in isotropic coordinates, by central differences."""
    height, width = images.shape[-2:]
    wide, high = extent((height, width))
    padded = F.pad(images, [1] * 4, mode="replicate")
    along_x = (padded[:, :, 1:-1, 2:] - padded[:, :, 1:-1, :-2]) * (width / (2 * wide))
    along_y = (padded[:, :, 2:, 1:-1] - padded[:, :, :-2, 1:-1]) * (height / (2 * high))
    return torch.cat([images, along_x, along_y], dim=1)


def as_table(maps: Float[Tensor, "n c h w"], num_views: int) -> Float[Tensor, "b v h w c"]:
    """Maps of b * ``num_views`` views with their channels last, as ``sample_views`` reads them."""
    return maps.unflatten(0, (-1, num_views)).permute(0, 1, 3, 4, 2).contiguous()


def every_second(grid: tuple[int, int], device: torch.device | str) -> Int[Tensor, " n"]:
    """Positions of every second cell of every second row of a grid."""
    return torch.arange(grid[0] * grid[1], device=device).reshape(grid)[1::2, 1::2].flatten()


def bilinear(
    x: Float[Tensor, "*batch"], y: Float[Tensor, "*batch"], size: tuple[int, int], dtype: torch.dtype
) -> tuple[Int[Tensor, "*batch 4"], Float[Tensor, "*batch 4"]]:
    """The four cells around a place, row by row in a map of ``size``, and their shares in its value.

    Args:
        x, y: column and row in cells; the centre of the first cell is 0. They must lie between the outermost centres.
        size: rows and columns.
        dtype: dtype of the shares.
    """
    height, width = size
    left, top = x.detach().floor().clamp(max=width - 2), y.detach().floor().clamp(max=height - 2)
    fx, fy = (x - left).to(dtype), (y - top).to(dtype)
    first = (top * width + left).long()
    cells = torch.stack([first, first + 1, first + width, first + width + 1], dim=-1)
    return cells, torch.stack([(1 - fx) * (1 - fy), fx * (1 - fy), (1 - fx) * fy, fx * fy], dim=-1)


def sample_views(
    table: Float[Tensor, "b v h w c"], points: Float[Tensor, "b s n 2"], views: Int[Tensor, "b s"]
) -> Float[Tensor, "b s n c"]:
    """Bilinear samples of maps at isotropic ``points``; s sets of points, each in the map of its own view.

    Points beyond the centres of the outermost pixels take the value of the nearest pixel.
    """
    b, v, height, width, _ = table.shape
    wide, high = extent((height, width))
    x = ((points[..., 0] / wide + 0.5) * width - 0.5).clamp(0, width - 1)
    y = ((points[..., 1] / high + 0.5) * height - 0.5).clamp(0, height - 1)
    cells, shares = bilinear(x, y, (height, width), table.dtype)
    first = (torch.arange(b, device=table.device)[:, None] * v + views) * (height * width)
    rows = first[..., None, None] + cells
    found = F.embedding_bag(
        rows.flatten(0, -2), table.flatten(0, 3), per_sample_weights=shares.flatten(0, -2), mode="sum"
    )
    return found.unflatten(0, points.shape[:-1])
