"""The search for the largest size that fits."""

import pytest

from openrayzer.interfaces import InputError
from openrayzer.machine.largest_fit import largest


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 16, 31, 100, 1000])
@pytest.mark.parametrize("begin", [1, 8, 64])
def test_the_found_size_fits_and_is_near_the_limit(limit: int, begin: int):
    tried: list[int] = []

    def fits(size: int) -> bool:
        tried.append(size)
        return size <= limit

    found = largest(fits, begin=begin)
    assert found <= limit
    assert limit - found <= found // 16
    assert len(tried) == len(set(tried))
    assert len(tried) < 2 * limit.bit_length() + begin.bit_length() + 2


def test_an_error_is_raised_if_no_size_fits():
    with pytest.raises(InputError, match="not even a size of 1"):
        largest(lambda size: False, begin=8)
