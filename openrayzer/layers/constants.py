"""Functions of sizes and devices only: their results are cached, or are constants for ``torch.compile``."""

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import ParamSpec, TypeVar

import torch
from torch._guards import detect_fake_mode

P = ParamSpec("P")
T = TypeVar("T")
CACHE_SIZE = 128
"""Results that the cache of each function holds; it drops the least recently used one first."""


def cached(function: Callable[P, T]) -> Callable[P, T]:
    """Decorator: ``function`` with a cache of its results; the arguments must be hashable.

    The cache is off under a ``FakeTensorMode``, in which the planner runs models.
    """
    computed_once = lru_cache(maxsize=CACHE_SIZE)(function)

    @wraps(function)
    def from_cache(*arguments: P.args, **named: P.kwargs) -> T:
        if detect_fake_mode() is not None:
            return function(*arguments, **named)
        with torch.inference_mode(False):  # autograd rejects tensors that were made in inference mode
            return computed_once(*arguments, **named)  # type: ignore[arg-type]  # hashable, as the docstring demands

    return from_cache


def constant_in_graphs(function: Callable[P, T]) -> Callable[P, T]:
    """Decorator: ``torch.compile`` runs the function outside of the graph and treats its result as a constant.

    Equal to ``torch.compiler.assume_constant_result``, but without the import of the compiler, which takes seconds.
    """
    function._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return function
