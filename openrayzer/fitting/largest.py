"""The largest size that still fits, found by trying."""

from collections.abc import Callable

from openrayzer.interfaces import InputError

_CLOSE = 16
"""The search ends when the next larger size that was tried exceeds the found one by less than a sixteenth of it."""


def largest(fits: Callable[[int], bool], *, begin: int = 1) -> int:
    """A size of 1 or more that fits, at most a sixteenth below the smallest one that was seen not to.

    Args:
        fits: whether a size does; what is smaller than one that fits must fit, too.
        begin: the first to be tried; it is doubled or halved from there, and then the gap is halved.

    Raises:
        InputError: not even 1 fits.
    """
    fitting, failing = 0, 0
    size = begin
    while not failing or not fitting:
        if fits(size):
            fitting, size = size, 2 * size
        elif size == 1:
            raise InputError("not even a single one fits into memory")
        else:
            failing, size = size, size // 2
    while failing - fitting > max(1, fitting // _CLOSE):
        middle = (fitting + failing) // 2
        if fits(middle):
            fitting = middle
        else:
            failing = middle
    return fitting
