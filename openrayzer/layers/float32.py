"""Layers that stay in float32 under autocast, for numbers that bfloat16 would round too much."""

from itertools import pairwise

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from openrayzer.geometry.precision import no_autocast


class Float32Linear(nn.Linear):
    """A linear layer computed in float32 whatever the autocast or parameter dtype.

    A class of its own, and not a switched-off autocast around ``nn.Linear``: DeepSpeed's autocast reduces the
    gradients of exactly ``nn.Linear`` in bfloat16, and those of this class in float32.
    """

    def forward(self, values: Float[Tensor, "*batch in"]) -> Float[Tensor, "*batch out"]:
        with no_autocast(values):
            bias = None if self.bias is None else self.bias.float()
            return F.linear(values.float(), self.weight.float(), bias)


def float32_mlp(*widths: int) -> nn.Sequential:
    """Linear layers of the given widths in float32 with SiLU between them."""
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [Float32Linear(before, after), nn.SiLU()]
    return nn.Sequential(*layers[:-1])
