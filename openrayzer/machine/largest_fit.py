"""Search for the largest size that fits."""

from collections.abc import Callable

from openrayzer.interfaces import InputError

_CLOSE = 16
"""The search ends when a size fits and a size larger by at most a sixteenth, or by 1, does not."""


def largest(fits: Callable[[int], bool], *, begin: int = 1) -> int:
    """Find the largest size of 1 or more that fits, to within a sixteenth, by doubling, halving and bisection.

    Args:
        fits: returns whether a size fits; if a size fits, every smaller size must fit.
        begin: the first size to try.

    Raises:
        InputError: not even 1 fits.
    """
    fitting, failing = 0, 0
    size = begin
    while not failing or not fitting:
        if fits(size):
            fitting, size = size, 2 * size
        elif size == 1:
            raise InputError("not even a size of 1 fits into memory")
        else:
            failing, size = size, size // 2
    while failing - fitting > max(1, fitting // _CLOSE):
        middle = (fitting + failing) // 2
        if fits(middle):
            fitting = middle
        else:
            failing = middle
    return fitting
