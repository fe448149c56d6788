"""Tables that depend on sizes and a device alone, made once and not in every pass, where each takes many launches."""

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import ParamSpec, TypeVar

import torch
from torch._guards import detect_fake_mode

P = ParamSpec("P")
T = TypeVar("T")
MOST = 128
"""Results that are kept of each function; the least recently used one goes first."""


def made_once(function: Callable[P, T]) -> Callable[P, T]:
    """``function``, with its results kept by its arguments, which must be hashable.

    While a plan follows a model on tensors without content, nothing is kept.
    """
    kept = lru_cache(maxsize=MOST)(function)

    @wraps(function)
    def recalled(*arguments: P.args, **named: P.kwargs) -> T:
        if detect_fake_mode() is not None:
            return function(*arguments, **named)
        with torch.inference_mode(False):  # what is made in it must not meet a gradient later
            return kept(*arguments, **named)

    return recalled
