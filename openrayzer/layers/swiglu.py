"""Gated feed-forward layer of a transformer block."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class SwiGLU(nn.Module):
    """W_out (W_values x * SiLU(W_gates x)), without biases. One layer computes values, then gates, as in RayDer.

    Args:
        width: token width d.
        ratio: hidden width in token widths.

    Source: Shazeer 2020, "GLU Variants Improve Transformer".
    """

    def __init__(self, *, width: int, ratio: float) -> None:
        super().__init__()
        hidden = int(width * ratio)
        self.values_gates = nn.Linear(width, 2 * hidden, bias=False)
        self.out = nn.Linear(hidden, width, bias=False)

    def forward(self, tokens: Float[Tensor, "b v n d"]) -> Float[Tensor, "b v n d"]:
        values, gates = self.values_gates(tokens).chunk(2, dim=-1)
        return self.out(values * F.silu(gates))
