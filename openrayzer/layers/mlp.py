"""Feed-forward layer of a transformer block."""

from jaxtyping import Float
from torch import Tensor, nn


class MLP(nn.Module):
    """Linear, exact GELU, Linear, without biases.

    Args:
        width: token width d.
        ratio: hidden width in token widths.
    """

    def __init__(self, *, width: int, ratio: float) -> None:
        super().__init__()
        hidden = int(width * ratio)
        self.layers = nn.Sequential(
            nn.Linear(width, hidden, bias=False), nn.GELU(), nn.Linear(hidden, width, bias=False)
        )

    def forward(self, tokens: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        return self.layers(tokens)
