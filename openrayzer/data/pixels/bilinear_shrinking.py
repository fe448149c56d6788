"""Shrinking by less than the square root of 2: OpenCV's bilinear interpolation, of hardly more than the crop keeps.

Published code resizes with LANCZOS. As long as an image shrinks this little, bilinear interpolation comes as close to
that as averages of areas do, in half of their time; further down it aliases.
"""

from functools import lru_cache
from math import gcd, sqrt

import cv2
import numpy as np

MOST = sqrt(2)
"""How many times larger than the resized image the stored one may be: 640 x 360 pixels are 1.41 times 455 x 256."""


@lru_cache(maxsize=64)
def shrinks_mildly(stored: tuple[int, ...], resized: tuple[int, int]) -> bool:
    """Whether a side shrinks, none grows, and none is more than ``MOST`` times as long as it will be."""
    scales = [old / new for old, new in zip(stored, resized, strict=True)]
    return min(scales) >= 1 and 1 < max(scales) <= MOST


def interpolate_and_crop(
    image: np.ndarray, *, resized: tuple[int, int], corner: tuple[int, int], result: np.ndarray
) -> None:
    """Write the part of a shrunk image that starts at ``corner`` and has the size of ``result``.

    Args:
        image: (h, w, 3) uint8.
        resized: height and width of the whole shrunk image; see ``shrinks_mildly``.
        corner: first row and column of the part.
        result: (height, width, 3) uint8.
    """
    (top, bottom), (above, below) = _around(image.shape[0], resized[0], corner[0], result.shape[0])
    (left, right), (before, behind) = _around(image.shape[1], resized[1], corner[1], result.shape[1])
    size = behind - before, below - above
    shrunk = cv2.resize(image[top:bottom, left:right], size, interpolation=cv2.INTER_LINEAR)
    row, column = corner[0] - above, corner[1] - before
    result[:] = shrunk[row : row + result.shape[0], column : column + result.shape[1]]


@lru_cache(maxsize=64)
def _around(stored: int, resized: int, first: int, count: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """The least stretch of whole stored pixels that is one of whole new pixels, too, and holds those asked for.

    Interpolated by itself, it gives what the whole side gives: while nothing grows, no new pixel reaches over its ends.

    Returns:
        its begin and end in stored pixels, and the same in new ones.
    """
    parts = gcd(stored, resized)
    begin, end = first * parts // resized, -(-(first + count) * parts // resized)
    old, new = stored // parts, resized // parts
    return (begin * old, end * old), (begin * new, end * new)
