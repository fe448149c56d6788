"""Matrix products without TF32, forward and backward."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from openrayzer.geometry.precision import no_autocast
from openrayzer.layers.tf32 import exact_float32


def exact_product(
    first: Float[Tensor, "*batch i j"], second: Float[Tensor, "*batch j k"]
) -> Float[Tensor, "*batch i k"]:
    """``first @ second`` in full precision, whatever the flags say while the backward pass runs.

    It is faster than ``geometry.precision.product`` for long matrices and takes less memory.
    """
    return _ExactProduct.apply(first, second)


class _ExactProduct(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, first: Tensor, second: Tensor) -> Tensor:
        ctx.save_for_backward(first, second)
        with no_autocast(first), exact_float32():
            return first @ second

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        first, second = ctx.saved_tensors
        with no_autocast(gradient), exact_float32():
            return gradient @ second.mT, first.mT @ gradient
