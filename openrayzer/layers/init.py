"""Weight initialisation: all rules of this package in one place. N(mean, standard deviation).

| layers                                               | weight                            | bias |
|------------------------------------------------------|-----------------------------------|------|
| linear layers of block l of a stack (from 0)         | N(0, s / sqrt(2 (l + 1)))         | 0    |
| other linear layers                                  | N(0, s)                           | 0    |
| learned tokens                                       | N(0, s)                           |      |
| camera heads: rot6d, quaternion; others: last layers | N(0, 1e-3)                        | 0    |
| RayDer: linear layers                                | N(0, 1 / sqrt(inputs))            | 0    |
| RayDer: last layer of each residual branch; colours  | 0                                 |      |

s = 0.02 sqrt(768 / width): 0.02 at the published width of 768. The scaling keeps the size of activations at other
widths. With 1e-3, all cameras of a scene are nearly equal at the start. With 0, RayDer's blocks start as the identity.

Source: RayZer and LVSM ("special_init" and "depth_init"); each stack counts its blocks from 0.
"""

from collections.abc import Iterable

import torch
from torch import nn

PUBLISHED_STD, PUBLISHED_WIDTH = 0.02, 768


def init_std(width: int) -> float:
    """Standard deviation s of the weights of a model with this token width."""
    return PUBLISHED_STD * (PUBLISHED_WIDTH / width) ** 0.5


def init_linears(module: nn.Module, *, std: float) -> None:
    """Initialise all linear layers in ``module``: weight N(0, std), bias 0."""
    for part in module.modules():
        if isinstance(part, nn.Linear):
            nn.init.normal_(part.weight, std=std)
            if part.bias is not None:
                nn.init.zeros_(part.bias)


def init_by_inputs(module: nn.Module) -> None:
    """Initialise all linear layers in ``module``: weight N(0, 1 / sqrt(inputs)), so outputs have the size of inputs."""
    for part in module.modules():
        if isinstance(part, nn.Linear):
            init_linears(part, std=part.in_features**-0.5)


def init_blocks(blocks: Iterable[nn.Module], *, width: int) -> None:
    """Initialise the linear layers of blocks in order; weights get smaller with depth."""
    for number, block in enumerate(blocks):
        init_linears(block, std=init_std(width) / (2 * (number + 1)) ** 0.5)


def learned_tokens(count: int, width: int) -> nn.Parameter:
    """``count`` learned tokens, (count, width)."""
    return nn.Parameter(torch.randn(count, width) * init_std(width))
