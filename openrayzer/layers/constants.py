"""What depends on sizes and a device alone: tables that are made once, and answers that a compiler need not follow."""

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
            return kept(*arguments, **named)  # type: ignore[arg-type]  # hashable, as the docstring demands

    return recalled


def constant_in_graphs(function: Callable[P, T]) -> Callable[P, T]:
    """A function whose result a compiler takes for a constant, so that what it does happens outside of the graph.

    This is ``torch.compiler.assume_constant_result`` without its import of the compiler, which takes seconds.
    """
    function._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return function
