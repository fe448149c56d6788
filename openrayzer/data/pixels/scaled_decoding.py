"""JPEG files decoded straight to a fraction of their size.

Who wants small images says so around the reading of a source (``decoding_for``); who decodes asks (``wanted_size``)
where the rest of its work allows smaller images than are stored. So no interface of a dataset speaks of it, and a
source that does not ask is read as ever.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from openrayzer.data.pixels.resizing import covering_size

REDUCTIONS = (8, 4, 2)
"""Fractions that libjpeg decodes to by itself, by a smaller inverse transform of each block of 8 x 8."""

GAP = 2
"""How many times larger than wanted a reduced image is that is shrunk further. Area averages of an image that is hardly
larger are blurred unevenly, which those of the whole image are not: the two are some 6 dB further apart below this.
"""

_WANTED: ContextVar[tuple[int, int] | None] = ContextVar("_WANTED", default=None)


@contextmanager
def decoding_for(size: tuple[int, int]) -> Iterator[None]:
    """While it lasts, sources that are read in this thread may give images reduced for ``fit_image`` to ``size``."""
    token = _WANTED.set(size)
    try:
        yield
    finally:
        _WANTED.reset(token)


def wanted_size() -> tuple[int, int] | None:
    """Height and width that the images are going to be cut to; None where they are wanted as they are stored."""
    return _WANTED.get()


def reduction(stored: tuple[int, int], size: tuple[int, int]) -> int:
    """How many times smaller an image may be decoded, for ``fit_image`` to cut it to ``size`` nearly as the whole one.

    Its sides must be whole multiples of the factor: libjpeg rounds up, and an image whose last row or column is only
    part of a pixel would come out shifted by up to a pixel at that end. And the reduced image must either need no
    more shrinking, or be ``GAP`` times as large as what is wanted.

    Args:
        stored: height and width of the stored image.
        size: height and width wanted.

    Returns:
        8, 4 or 2; 1 for the whole image.
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
