"""JPEG files decoded at a fraction of their size.

A caller that needs small images reads a dataset inside ``decoding_for``. A dataset that can return reduced images asks
``wanted_size``. The interface of datasets stays free of this option, and other datasets return full-size images.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from openrayzer.data.pixels.resizing import covering_size

REDUCTIONS = (8, 4, 2)
"""Factors by which libjpeg can reduce an image: it inverts a part of the frequencies of each 8 x 8 block."""

GAP = 2
"""Smallest ratio of a reduced image to the wanted size, if the reduced image is shrunk further. Below this ratio, area
averages of the reduced image are blurred unevenly: they differ from averages of the full image by about 6 dB more.
"""

_WANTED: ContextVar[tuple[int, int] | None] = ContextVar("_WANTED", default=None)


@contextmanager
def decoding_for(size: tuple[int, int]) -> Iterator[None]:
    """Inside this context, datasets read in this thread may return images reduced for ``fit_image`` to ``size``."""
    token = _WANTED.set(size)
    try:
        yield
    finally:
        _WANTED.reset(token)


def wanted_size() -> tuple[int, int] | None:
    """Height and width that ``fit_image`` is going to cut images to; None if the stored size is wanted."""
    return _WANTED.get()


def reduction(stored: tuple[int, int], size: tuple[int, int]) -> int:
    """Largest factor by which a JPEG file may be reduced so that ``fit_image`` gives nearly the same result.

    Both sides must be multiples of the factor: libjpeg rounds up, so an incomplete last row or column would shift the
    image by up to a pixel at that end. The reduced image must either need no more shrinking or be ``GAP`` times as
    large as the wanted size.

    Args:
        stored: height and width of the stored image in pixels.
        size: height and width of the result of ``fit_image`` in pixels.

    Returns:
        8, 4 or 2; 1 for the full size.
    """
    height, width = stored
    for factor in REDUCTIONS:
        if height % factor or width % factor:
            continue
        reduced = height // factor, width // factor
        if reduced == covering_size(stored, size) or all(
            has >= GAP * wanted for has, wanted in zip(reduced, size, strict=True)
        ):
            return factor
    return 1
