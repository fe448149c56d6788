"""The gated feed-forward half of a block."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class SwiGLU(nn.Module):
    """Values times SiLU of gates, both linear in the token, then a linear map back; no biases.

    Source: Shazeer 2020, "GLU Variants Improve Transformer"; values first, then gates, as in RayDer.
    """

    def __init__(self, *, width: int, ratio: float) -> None:
        super().__init__()
        hidden = int(width * ratio)
        self.values_gates = nn.Linear(width, 2 * hidden, bias=False)
        self.out = nn.Linear(hidden, width, bias=False)

    def forward(self, tokens: Float[Tensor, "b v n d"]) -> Float[Tensor, "b v n d"]:
        values, gates = self.values_gates(tokens).chunk(2, dim=-1)
        return self.out(values * F.silu(gates))
