"""RMSNorm in full precision, with a gain of its own or one that is handed in."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from openrayzer.geometry.precision import full_precision

EPS = 1e-6
"""Added to the mean square, so that a token of zeros stays zeros. Source: RayDer."""


def rms_normalise(
    tokens: Float[Tensor, "*batch d"], gain: Float[Tensor, "*#batch d"], *, eps: float = EPS
) -> Float[Tensor, "*batch d"]:
    """x / sqrt(mean(x^2) + eps) * gain, computed in float32 (float64 if that is given) and returned so."""
    return _RMSNormalise.apply(tokens, full_precision(gain), eps)


class _RMSNormalise(torch.autograd.Function):
    """Written out, because autograd would keep three float32 copies of the tokens and pass over them twice as often."""

    @staticmethod
    def forward(ctx: Any, tokens: Tensor, gain: Tensor, eps: float) -> Tensor:
        values = full_precision(tokens)
        norm = torch.linalg.vector_norm(values, dim=-1, keepdim=True)  # one pass where square().mean() takes two
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
        if ctx.needs_input_grad[1]:  # a copy where nothing is summed, since the product is overwritten below
            of_gain = product.clone() if gain.shape == product.shape else product.sum_to_size(gain.shape)
        along = product.mul_(gain).mean(dim=-1, keepdim=True)
        of_tokens = (gradient * gain).addcmul_(normalised, along, value=-1).mul_(scale)
        return of_tokens.to(tokens.dtype), of_gain, None


class RMSNorm(nn.Module):
    """RMSNorm with a learned gain; float32 out, whatever comes in.

    Args:
        width: of what is normalised.
        eps: added to the mean square.
    """

    def __init__(self, width: int, *, eps: float = EPS) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, tokens: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch d"]:
        return rms_normalise(tokens, self.weight, eps=self.eps)
