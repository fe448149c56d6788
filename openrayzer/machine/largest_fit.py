"""The largest size that still fits, found by trying."""

from collections.abc import Callable

from openrayzer.interfaces import InputError

_CLOSE = 16
"""The search ends when a size fits and one that is larger by 1, or by at most a sixteenth, does not."""


def largest(fits: Callable[[int], bool], *, begin: int = 1) -> int:
    """A size of 1 or more that fits, found by doubling, halving and bisection.

    Args:
        fits: whether a size fits; every size below one that fits must fit as well.
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
