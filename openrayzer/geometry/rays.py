"""Pixels to rays and back. This file alone defines pixel centres and the order of Plücker coordinates.

Pixel centres lie at +0.5. The ray through a pixel is (o x d, d) in world coordinates: the moment first, then the
direction d with |d| = 1; o is the camera centre. Functions compute and return float32, or float64 if the cameras are
float64, without autocast.
"""

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from openrayzer.geometry.precision import full_precision, no_autocast, transform
from openrayzer.types import Cameras

POLE = 1e-6
"""Smallest horizontal length of a ray in ``patch_angles``; it keeps the gradient finite for vertical rays."""


def pixel_centres(count: int, *, like: Float[Tensor, "..."]) -> Float[Tensor, " count"]:
    """Centres of ``count`` pixels in a row, as fractions of the image side; dtype and device of ``like``."""
    return (torch.arange(count, dtype=like.dtype, device=like.device) + 0.5) / count


def pixel_grid(image_size: tuple[int, int], *, like: Float[Tensor, "..."]) -> Float[Tensor, "h w 2"]:
    """(x, y) of all pixel centres, as fractions of image width and height; dtype and device of ``like``."""
    height, width = image_size
    y, x = torch.meshgrid(pixel_centres(height, like=like), pixel_centres(width, like=like), indexing="ij")
    return torch.stack([x, y], dim=-1)


def plucker_rays(cameras: Cameras, image_size: tuple[int, int]) -> Float[Tensor, "b v 6 h w"]:
    """Plücker coordinates (o x d, d) of the rays through all pixel centres.

    Args:
        cameras: cameras of v views.
        image_size: height and width in pixels.

    Source: Sitzmann et al. 2021, "Light Field Networks", equation 1, with the moment first.
    """
    with no_autocast(cameras.c2w):
        origin = full_precision(cameras.c2w)[..., :3, 3, None]
        # Without its scale, a ray is the sum of a term for its column and a term for its row. So only one sum and
        # one product have the size of the result.
        column, row = (
            torch.cat([torch.linalg.cross(origin.expand_as(part), part, dim=2), part], dim=2)
            for part in _direction_parts(cameras, image_size)
        )
        rays = column[..., None, :] + row[..., :, None]
        return rays * rays[:, :, 3:].square().sum(dim=2, keepdim=True).rsqrt()


def ray_directions(cameras: Cameras, image_size: tuple[int, int]) -> Float[Tensor, "b v 3 h w"]:
    """Directions of the rays through all pixel centres, in world coordinates, of length 1."""
    with no_autocast(cameras.c2w):
        column, row = _direction_parts(cameras, image_size)
        directions = column[..., None, :] + row[..., :, None]
        return directions * directions.square().sum(dim=2, keepdim=True).rsqrt()


def patch_angles(cameras: Cameras, grid: tuple[int, int]) -> Float[Tensor, "b v n 2"]:
    """(elevation, azimuth) in radians of the rays through the centres of patches, in world coordinates, row by row.

    Elevation grows downwards and azimuth grows to the right, like rows and columns. (0, 0) is the z axis of the world.

    Args:
        cameras: cameras of v views.
        grid: rows and columns of patches; n = rows * columns.
    """
    with no_autocast(cameras.c2w):
        x, y, z = rearrange(ray_directions(cameras, grid), "b v xyz y x -> xyz b v (y x)").unbind(0)
        horizontal = (x.square() + z.square() + POLE**2).sqrt()
        return torch.stack([torch.atan2(y, horizontal), torch.atan2(x, z)], dim=-1)


def _direction_parts(
    cameras: Cameras, image_size: tuple[int, int]
) -> tuple[Float[Tensor, "b v 3 w"], Float[Tensor, "b v 3 h"]]:
    """A term for each column and one for each row; their sum is R ((x - cx) / fx, (y - cy) / fy, 1)."""
    height, width = image_size
    rotation = full_precision(cameras.c2w)[..., :3, :3]
    fx, fy, cx, cy = rearrange(full_precision(cameras.intrinsics), "b v k -> k b v 1").unbind(0)
    x = (pixel_centres(width, like=fx) - cx) / fx  # (b, v, w)
    y = (pixel_centres(height, like=fy) - cy) / fy  # (b, v, h)
    right, down, forward = rearrange(rotation, "b v i j -> j b v i 1").unbind(0)
    return right * x[:, :, None], down * y[:, :, None] + forward


def project(points: Float[Tensor, "b v n 3"], cameras: Cameras) -> Float[Tensor, "b v n 2"]:
    """Project world points into views: (x, y) as fractions of image width and height.

    Points outside the image have values below 0 or above 1. Points with depth z <= 0 give NaN.
    """
    with no_autocast(cameras.c2w):
        c2w = full_precision(cameras.c2w)[:, :, None]
        x, y, z = transform(c2w[..., :3, :3].mT, full_precision(points) - c2w[..., :3, 3]).unbind(-1)
        fx, fy, cx, cy = full_precision(cameras.intrinsics)[:, :, None].unbind(-1)
        seen = z > 0
        depth = torch.where(seen, z, 1.0)
        image = torch.stack([fx * x / depth + cx, fy * y / depth + cy], dim=-1)
        return torch.where(seen[..., None], image, torch.nan)


def unproject(depth: Float[Tensor, "b v h w"], cameras: Cameras) -> Float[Tensor, "b v 3 h w"]:
    """World points at a depth along the optical axis of each view, through all pixel centres; inverse of ``project``.

    Args:
        depth: depth in the unit of length of ``cameras``.
        cameras: cameras of the v views.
    """
    with no_autocast(cameras.c2w):
        column, row = _direction_parts(cameras, (depth.shape[-2], depth.shape[-1]))
        centre = full_precision(cameras.c2w)[..., :3, 3, None, None]
        return centre + full_precision(depth)[:, :, None] * (column[..., None, :] + row[..., :, None])
