"""Results that depend on sizes and a device only: tables made once, and functions that are constants for a compiler."""

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import ParamSpec, TypeVar

import torch
from torch._guards import detect_fake_mode

P = ParamSpec("P")
T = TypeVar("T")
MOST = 128
"""Most results kept for each function; the least recently used one is dropped first."""


def made_once(function: Callable[P, T]) -> Callable[P, T]:
    """``function``, which computes once for each set of arguments; these must be hashable.

    Nothing is kept while the planner runs a model on tensors without content.
    """
    kept = lru_cache(maxsize=MOST)(function)

    @wraps(function)
    def recalled(*arguments: P.args, **named: P.kwargs) -> T:
        if detect_fake_mode() is not None:
            return function(*arguments, **named)
        with torch.inference_mode(False):  # tensors made in it could not take part in gradients later
            return kept(*arguments, **named)  # type: ignore[arg-type]  # hashable, as the docstring demands

    return recalled


def constant_in_graphs(function: Callable[P, T]) -> Callable[P, T]:
    """Mark a function, so that a compiler runs it outside of the graph and takes its result for a constant.

    It does what ``torch.compiler.assume_constant_result`` does, without importing the compiler, which takes seconds.
    """
    function._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return function
