"""Stored images at the size of a run with exact intrinsics, and conversions between bytes and floats."""

from collections.abc import Iterable

import cv2
import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, UInt8
from torch import Tensor

from openrayzer.data.pixels.area_shrinking import shrink_and_crop, shrinks_by_areas
from openrayzer.data.pixels.bilinear_shrinking import interpolate_and_crop, shrinks_mildly
from openrayzer.interfaces import Frames


def fit_image(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """An image resized to cover ``size`` and cropped at its centre.

    Shrinking to 0.71 of the size or more is bilinear; shrinking further averages areas, which avoids aliasing.
    Enlarging is bicubic. An image that already covers ``size`` exactly is not resampled.

    Args:
        image: (h, w, 3) uint8.
        size: height and width of the result in pixels.

    Returns:
        (3, height, width) float32 in [0, 1].
    """
    result = np.empty((*size, 3), np.uint8)
    fit_into(image, result)
    return as_float(result)


def fit_frames(frames: Iterable[Frames], result: np.ndarray) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Resize and crop frames as ``fit_image`` does, one at a time.

    Args:
        frames: an iterable of single frames.
        result: (v, height, width, 3) uint8, the array for the images.

    Returns:
        ``c2w`` (v, 4, 4) and the intrinsics (v, 4) of the new images; None if a frame has no camera.
    """
    stored, cameras = list[tuple[int, int]](), list[Frames]()
    for frame, place in zip(frames, result, strict=True):
        (image,) = frame.images
        fit_into(image, place)
        stored.append(image.shape[:2])
        cameras.append(Frames([], frame.c2w, frame.intrinsics))
    whole = Frames.joined(cameras)
    if whole.intrinsics is None:
        return whole.c2w, None
    intrinsics = np.empty_like(whole.intrinsics)
    for size in set(stored):
        alike = [place for place, other in enumerate(stored) if other == size]
        intrinsics[alike] = fit_intrinsics(whole.intrinsics[alike], size, result.shape[1:3])
    return whole.c2w, intrinsics


def fit_into(image: np.ndarray, result: np.ndarray) -> None:
    """Resize and crop an image as ``fit_image`` does and write it into ``result``, (height, width, 3) uint8."""
    size = result.shape[0], result.shape[1]
    height, width = covering_size(image.shape[:2], size)
    top, left = (height - size[0]) // 2, (width - size[1]) // 2
    if shrinks_mildly(image.shape[:2], (height, width)):
        interpolate_and_crop(image, resized=(height, width), corner=(top, left), result=result)
        return
    if shrinks_by_areas(image.shape[:2], (height, width)):
        shrink_and_crop(image, resized=(height, width), corner=(top, left), result=result)
        return
    if (height, width) != image.shape[:2]:
        shrinking = height * width < image.shape[0] * image.shape[1]
        method = cv2.INTER_AREA if shrinking else cv2.INTER_CUBIC
        image = cv2.resize(image, (width, height), interpolation=method)
    result[:] = image[top : top + size[0], left : left + size[1]]


def fit_depth(depth: Float[np.ndarray, "_ _"], size: tuple[int, int]) -> Float[np.ndarray, "h w"]:
    """A depth map resized and cropped as ``fit_image`` does with its image.

    Each pixel takes the depth of the stored pixel that holds its centre: a mean over an edge would be the depth of no
    surface.
    """
    whole = covering_size(depth.shape, size)
    rows, columns = (
        ((np.arange(wanted) + (side - wanted) // 2 + 0.5) * stored / side).astype(int)
        for wanted, side, stored in zip(size, whole, depth.shape, strict=True)
    )
    return depth[rows[:, None], columns]


def fit_intrinsics(intrinsics: np.ndarray, stored: tuple[int, int], size: tuple[int, int]) -> np.ndarray:
    """Intrinsics of the result of ``fit_image``.

    Resizing does not change normalised intrinsics, even where the sides are rounded. Cropping changes the size that
    they are divided by and moves the principal point by whole pixels.

    Args:
        intrinsics: (..., 4) fx, fy, cx, cy divided by (w, h, w, h) of the stored image.
        stored: height and width of the stored image in pixels.
        size: height and width of the result in pixels.
    """
    height, width = covering_size(stored, size)
    resized = np.array([width, height, width, height], np.float64)
    corner = np.array([0, 0, (width - size[1]) // 2, (height - size[0]) // 2])
    result = (intrinsics * resized - corner) / np.array([size[1], size[0], size[1], size[0]])
    return result.astype(np.float32)


def covering_size(stored: tuple[int, ...], size: tuple[int, int]) -> tuple[int, int]:
    """Smallest height and width with the proportions of ``stored`` that cover ``size``, rounded to whole pixels."""
    (height, width), (wanted_height, wanted_width) = stored, size
    if wanted_height * width >= wanted_width * height:  # height decides; the other side is rounded half up
        return wanted_height, max(wanted_width, (2 * width * wanted_height + height) // (2 * height))
    return max(wanted_height, (2 * height * wanted_width + width) // (2 * width)), wanted_width


def as_float(images: np.ndarray) -> np.ndarray:
    """Images (..., h, w, 3) uint8 as (..., 3, h, w) float32 in [0, 1]: each value divided by 255 and rounded once."""
    planes = np.ascontiguousarray(rearrange(images, "... h w c -> ... c h w"))
    return np.divide(planes, np.float32(255), dtype=np.float32)


def to_bytes(image: Float[Tensor, "3 h w"]) -> UInt8[Tensor, "h w 3"]:
    """An image in [0, 1] as bytes on the CPU; values outside [0, 1] are clipped."""
    return rearrange((image.detach().float().clamp(0, 1) * 255).round().to(torch.uint8).cpu(), "c h w -> h w c")
