"""Sequence parallelism in a plan: one process of several, without the others."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from openrayzer.interfaces import Loss
from openrayzer.layers.view_shares import UNSHARED, ViewShares, share_views


class CountedExchange:
    """Counts the bytes that a process would send to the others, in the forward and in the backward pass.

    Attributes:
        bytes: bytes sent until now. A process keeps its own row, so it sends S - 1 of S rows.
    """

    def __init__(self) -> None:
        self.bytes = 0.0

    def __call__(self, rows: Float[Tensor, "processes ..."]) -> Float[Tensor, "processes ..."]:
        return _Exchange.apply(rows, self)  # type: ignore[no-untyped-call, no-any-return]

    def count(self, rows: Float[Tensor, "processes ..."]) -> Float[Tensor, "processes ..."]:
        """A tensor of the shape that the other processes would send."""
        self.bytes += rows.nbytes * (len(rows) - 1) / len(rows)
        return torch.empty_like(rows, memory_format=torch.contiguous_format)


class _Exchange(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, rows: Tensor, counted: CountedExchange) -> Tensor:  # type: ignore[override]
        context.counted = counted
        return counted.count(rows)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        return context.counted.count(gradient), None


@contextmanager
def sharing_views(model: nn.Module, shares: ViewShares) -> Iterator[None]:
    """Have ``model`` divide views inside a ``with`` block."""
    share_views(model, shares)
    try:
        yield
    finally:
        share_views(model, UNSHARED)


def own_views(
    images: Float[Tensor, "b v 3 h w"], loss: nn.Module, shares: ViewShares
) -> Float[Tensor, "b own_v 3 h w"]:
    """The target views that a process compares in a term of the loss."""
    divided = isinstance(loss, Loss) and loss.mean_over_views
    return images[:, shares.compared(images.shape[1])[0]] if divided else images
