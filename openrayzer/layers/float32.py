"""Layers that compute in float32 under autocast, for values that bfloat16 would round too coarsely."""

from itertools import pairwise

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from openrayzer.geometry.precision import no_autocast


class Float32Linear(nn.Linear):
    """Linear layer that computes in float32 for every autocast dtype and parameter dtype.

    It is a subclass because DeepSpeed's autocast reduces gradients of the exact class ``nn.Linear`` in bfloat16.
    Gradients of this class are reduced in float32.
    """

    def forward(self, values: Float[Tensor, "*batch in"]) -> Float[Tensor, "*batch out"]:
        with no_autocast(values):
            bias = None if self.bias is None else self.bias.float()
            return F.linear(values.float(), self.weight.float(), bias)


def float32_mlp(*widths: int, last_bias: bool = True) -> nn.Sequential:
    """Linear layers in float32 with SiLU between them.

    Args:
        widths: widths of the input, the hidden values and the output.
        last_bias: whether the last layer has a bias; the others have one.
    """
    layers: list[nn.Module] = []
    for number, (before, after) in enumerate(pairwise(widths), start=2):
        layers += [Float32Linear(before, after, bias=last_bias or number < len(widths)), nn.SiLU()]
    return nn.Sequential(*layers[:-1])
