"""RMSNorm in full precision, with a gain of its own or one that is handed in."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from openrayzer.geometry.precision import full_precision

EPS = 1e-6
"""Added to the mean square, so that a token of zeros stays zeros. Source: RayDer."""


def rms_normalise(tokens: Float[Tensor, "*batch d"], gain: Float[Tensor, "*#batch d"]) -> Float[Tensor, "*batch d"]:
    """x / sqrt(mean(x^2) + eps) * gain, computed in float32 (float64 if that is given) and returned so."""
    values = full_precision(tokens)
    norm = torch.linalg.vector_norm(values, dim=-1, keepdim=True)  # one pass where square().mean() takes two
    return values * torch.rsqrt(norm.square() / tokens.shape[-1] + EPS) * gain


class RMSNorm(nn.Module):
    """RMSNorm with a learned gain; float32 out, whatever comes in."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, tokens: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch d"]:
        return rms_normalise(tokens, full_precision(self.weight))
