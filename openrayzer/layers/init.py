"""All weight initialisation rules.

| what                                 | weight                                          | bias |
|--------------------------------------|-------------------------------------------------|------|
| linear layers of block l (from 0)    | N(0, s / sqrt(2 (l + 1)))                       | 0    |
| other linear layers                  | N(0, s)                                         | 0    |
| learned tokens                       | N(0, s)                                         |      |
| camera heads: rot6d, and last layers | N(0, 1e-3): cameras start as nearly equal       | 0    |
| RayDer: linear layers                | N(0, 1 / sqrt(inputs))                          |      |
| RayDer: ends of residual branches, and the last layer | 0: blocks start as the identity |     |

s = 0.02 sqrt(768 / width): 0.02 at the published width, and the same size of activations at any other.

Source: RayZer and LVSM ("special_init" and "depth_init"); each stack counts its blocks from 0.
"""

from collections.abc import Iterable

import torch
from torch import nn

PUBLISHED_STD, PUBLISHED_WIDTH = 0.02, 768


def init_std(width: int) -> float:
    """Standard deviation of weights in a model of this token width."""
    return PUBLISHED_STD * (PUBLISHED_WIDTH / width) ** 0.5


def init_linears(module: nn.Module, *, std: float) -> None:
    """Every linear layer inside: weight N(0, std), bias 0."""
    for part in module.modules():
        if isinstance(part, nn.Linear):
            nn.init.normal_(part.weight, std=std)
            if part.bias is not None:
                nn.init.zeros_(part.bias)


def init_by_inputs(module: nn.Module) -> None:
    """Every linear layer inside: outputs as large as inputs are, bias 0."""
    for part in module.modules():
        if isinstance(part, nn.Linear):
            init_linears(part, std=part.in_features**-0.5)


def init_blocks(blocks: Iterable[nn.Module], *, width: int) -> None:
    """Linear layers of a run of blocks, smaller with depth."""
    for number, block in enumerate(blocks):
        init_linears(block, std=init_std(width) / (2 * (number + 1)) ** 0.5)


def learned_tokens(count: int, width: int) -> nn.Parameter:
    """``count`` learned vectors (count, width)."""
    return nn.Parameter(torch.randn(count, width) * init_std(width))
