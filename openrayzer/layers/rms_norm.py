"""RMSNorm in float32 or better: a function with a given gain, and a layer with a learned gain."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from openrayzer.geometry.precision import full_precision

EPS = 1e-6
"""Added to the mean square; a token of zeros then stays zero. Source: RayDer."""


def rms_normalise(
    tokens: Float[Tensor, "*batch d"], gain: Float[Tensor, "*#batch d"], *, eps: float = EPS
) -> Float[Tensor, "*batch d"]:
    """x / sqrt(mean(x^2) + eps) * gain over the last axis, in float32; in float64 if the tokens are float64."""
    return _RMSNormalise.apply(tokens, full_precision(gain), eps)


class _RMSNormalise(torch.autograd.Function):
    """Explicit backward pass: autograd would store three float32 copies of the tokens and read them twice as often."""

    @staticmethod
    def forward(ctx: Any, tokens: Tensor, gain: Tensor, eps: float) -> Tensor:
        values = full_precision(tokens)
        norm = torch.linalg.vector_norm(values, dim=-1, keepdim=True)  # one pass; square().mean() takes two
        scale = norm.square_().div_(tokens.shape[-1]).add_(eps).rsqrt_()
        ctx.save_for_backward(tokens, scale, gain)
        return (values * scale).mul_(gain)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor | None, None]:
        tokens, scale, gain = ctx.saved_tensors
        normalised = full_precision(tokens) * scale
        product = gradient * normalised
        of_gain = None
        if ctx.needs_input_grad[1]:  # without a sum it is a copy, because mul_ overwrites the product below
            of_gain = product.clone() if gain.shape == product.shape else product.sum_to_size(gain.shape)
        along = product.mul_(gain).mean(dim=-1, keepdim=True)
        of_tokens = (gradient * gain).addcmul_(normalised, along, value=-1).mul_(scale)
        return of_tokens.to(tokens.dtype), of_gain, None


class RMSNorm(nn.Module):
    """RMSNorm with a learned gain; the result is float32 or better.

    Args:
        width: width of the last axis.
        eps: added to the mean square.
    """

    def __init__(self, width: int, *, eps: float = EPS) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, tokens: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch d"]:
        return rms_normalise(tokens, self.weight, eps=self.eps)
