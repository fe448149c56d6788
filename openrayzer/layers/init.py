"""All weight initialisation rules.

| what                                | weight                             | bias |
|-------------------------------------|------------------------------------|------|
| linear layers of block l (from 0)   | N(0, 0.02 / sqrt(2 (l + 1)))       | 0    |
| other linear layers                 | N(0, 0.02)                         | 0    |
| learned tokens                      | N(0, 0.02)                         |      |
| last layers of camera heads         | N(0, 1e-3): cameras start as equal | 0    |

Source: RayZer and LVSM ("special_init" and "depth_init"); each stack counts its blocks from 0.
"""

from collections.abc import Iterable

import torch
from torch import nn

STD = 0.02


def init_linears(module: nn.Module, *, std: float = STD) -> None:
    """Every linear layer inside: weight N(0, std), bias 0."""
    for part in module.modules():
        if isinstance(part, nn.Linear):
            nn.init.normal_(part.weight, std=std)
            if part.bias is not None:
                nn.init.zeros_(part.bias)


def init_blocks(blocks: Iterable[nn.Module]) -> None:
    """Linear layers of a run of blocks, smaller with depth."""
    for number, block in enumerate(blocks):
        init_linears(block, std=STD / (2 * (number + 1)) ** 0.5)


def learned_tokens(count: int, width: int) -> nn.Parameter:
    """``count`` learned vectors (count, width)."""
    return nn.Parameter(torch.randn(count, width) * STD)
