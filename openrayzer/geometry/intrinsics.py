"""Focal lengths, principal points and what cropping does to them.

``intrinsics`` are (fx, fy, cx, cy) divided by image width, height, width, height. Resizing an image, also with
different factors in x and y, leaves them as they are, so there is no function for that. Sizes are (height, width)
in pixels. Everything is returned in float32 (float64 if that is given).
"""

import torch
from jaxtyping import Float
from torch import Tensor

from openrayzer.geometry.precision import full_precision


def to_pixels(intrinsics: Float[Tensor, "*batch 4"], image_size: tuple[int, int]) -> Float[Tensor, "*batch 4"]:
    """Normalised intrinsics to pixels."""
    height, width = image_size
    fx, fy, cx, cy = full_precision(intrinsics).unbind(-1)
    return torch.stack([fx * width, fy * height, cx * width, cy * height], dim=-1)


def from_pixels(intrinsics: Float[Tensor, "*batch 4"], image_size: tuple[int, int]) -> Float[Tensor, "*batch 4"]:
    """Intrinsics in pixels to normalised ones."""
    height, width = image_size
    fx, fy, cx, cy = full_precision(intrinsics).unbind(-1)
    return torch.stack([fx / width, fy / height, cx / width, cy / height], dim=-1)


def after_crop(
    intrinsics: Float[Tensor, "*batch 4"],
    image_size: tuple[int, int],
    top: int,
    left: int,
    crop_size: tuple[int, int],
) -> Float[Tensor, "*batch 4"]:
    """Intrinsics of the part of an image that starts ``top`` rows down and ``left`` columns in.

    The crop may reach over the image: that is padding.
    """
    fx, fy, cx, cy = to_pixels(intrinsics, image_size).unbind(-1)
    return from_pixels(torch.stack([fx, fy, cx - left, cy - top], dim=-1), crop_size)


def focal_to_fov(focal: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    """Field of view in radians across the image side that ``focal`` is divided by; focal > 0."""
    return 2 * torch.atan(0.5 / full_precision(focal))


def fov_to_focal(fov: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    """Focal length divided by the image side that ``fov`` spans; 0 < fov < pi, in radians."""
    return 0.5 / torch.tan(full_precision(fov) / 2)


def square_pixel_intrinsics(focal: Float[Tensor, "*batch"], image_size: tuple[int, int]) -> Float[Tensor, "*batch 4"]:
    """Intrinsics of a camera with square pixels and the principal point at the centre.

    Args:
        focal: focal length divided by the shorter image side.
        image_size: only the aspect ratio matters.
    """
    height, width = image_size
    focal = full_precision(focal)
    centre = torch.full_like(focal, 0.5)
    shorter = min(image_size)
    return torch.stack([focal * (shorter / width), focal * (shorter / height), centre, centre], dim=-1)


def equal_share_intrinsics(focal: Float[Tensor, "*batch"], image_size: tuple[int, int]) -> Float[Tensor, "*batch 4"]:
    """Intrinsics of a camera that sees the same angle across the width as across the height.

    Pixels are square on square images only, so this is for models that were trained so.

    Args:
        focal: focal length in x divided by the image width, and in y by the height.
        image_size: of no effect; here so that both ways are called alike.
    """
    focal = full_precision(focal)
    centre = torch.full_like(focal, 0.5)
    return torch.stack([focal, focal, centre, centre], dim=-1)


def height_intrinsics(focal: Float[Tensor, "*batch"], image_size: tuple[int, int]) -> Float[Tensor, "*batch 4"]:
    """Intrinsics of a camera with square pixels and the principal point (h / 2, h / 2) pixels from the upper left.

    That is the centre of square images only, so this is for models that were trained so.

    Args:
        focal: focal length divided by the image height.
        image_size: only the aspect ratio matters.
    """
    height, width = image_size
    focal = full_precision(focal)
    centre = torch.full_like(focal, 0.5)
    return torch.stack([focal * (height / width), focal, centre * (height / width), centre], dim=-1)
