"""Intrinsics of pinhole cameras: units, crops, field of view.

``intrinsics`` are (fx, fy, cx, cy) divided by image width, height, width, height. Resizing an image does not change
them, even with different factors in x and y. Image sizes are (height, width) in pixels. Results are float32, or
float64 if the input is float64.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from openrayzer.geometry.precision import full_precision


def to_pixels(intrinsics: Float[Tensor, "*batch 4"], image_size: tuple[int, int]) -> Float[Tensor, "*batch 4"]:
    """Normalised intrinsics to intrinsics in pixels."""
    height, width = image_size
    fx, fy, cx, cy = full_precision(intrinsics).unbind(-1)
    return torch.stack([fx * width, fy * height, cx * width, cy * height], dim=-1)


def from_pixels(intrinsics: Float[Tensor, "*batch 4"], image_size: tuple[int, int]) -> Float[Tensor, "*batch 4"]:
    """Intrinsics in pixels to normalised intrinsics."""
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
    """Intrinsics of a crop.

    Args:
        intrinsics: normalised intrinsics of the whole image.
        image_size: height and width of the whole image in pixels.
        top: first row of the crop; negative values pad the image.
        left: first column of the crop; negative values pad the image.
        crop_size: height and width of the crop in pixels; it may extend beyond the image.
    """
    fx, fy, cx, cy = to_pixels(intrinsics, image_size).unbind(-1)
    return from_pixels(torch.stack([fx, fy, cx - left, cy - top], dim=-1), crop_size)


def focal_to_fov(focal: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    """Field of view in radians: 2 atan(1 / (2 f)) for focal length f > 0 in units of the same image side."""
    return 2 * torch.atan(0.5 / full_precision(focal))


def fov_to_focal(fov: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    """Focal length in units of the image side of the field of view: 1 / (2 tan(fov / 2)), 0 < fov < pi radians."""
    return 0.5 / torch.tan(full_precision(fov) / 2)


def square_pixel_intrinsics(focal: Float[Tensor, "*batch"], image_size: tuple[int, int]) -> Float[Tensor, "*batch 4"]:
    """Intrinsics of a camera with square pixels and the principal point at the centre.

    Args:
        focal: focal length divided by the shorter image side.
        image_size: height and width; only their ratio matters.
    """
    height, width = image_size
    focal = full_precision(focal)
    centre = torch.full_like(focal, 0.5)
    shorter = min(image_size)
    return torch.stack([focal * (shorter / width), focal * (shorter / height), centre, centre], dim=-1)


def equal_share_intrinsics(focal: Float[Tensor, "*batch"], image_size: tuple[int, int]) -> Float[Tensor, "*batch 4"]:
    """Intrinsics of a camera with the same field of view across the width and across the height.

    Pixels are square only on square images. Use it for weights that were trained with this convention.

    Args:
        focal: focal length in x divided by the image width, which is also fy divided by the height.
        image_size: has no effect; the parameter gives this function the signature of ``square_pixel_intrinsics``.
    """
    focal = full_precision(focal)
    centre = torch.full_like(focal, 0.5)
    return torch.stack([focal, focal, centre, centre], dim=-1)


def height_intrinsics(focal: Float[Tensor, "*batch"], image_size: tuple[int, int]) -> Float[Tensor, "*batch 4"]:
    """Intrinsics of a camera with square pixels and the principal point at (h / 2, h / 2) pixels.

    This point is the image centre only on square images. Use it for weights that were trained with this convention.

    Args:
        focal: focal length divided by the image height h.
        image_size: height and width; only their ratio matters.
    """
    height, width = image_size
    focal = full_precision(focal)
    centre = torch.full_like(focal, 0.5)
    return torch.stack([focal * (height / width), focal, centre * (height / width), centre], dim=-1)
