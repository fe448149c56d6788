"""Convolutions."""

from torch import nn


def zeroed(layer: nn.Conv2d) -> nn.Conv2d:
    """The layer with all weights zero, so that its output is zero before training."""
    for weights in layer.parameters():
        nn.init.zeros_(weights)
    return layer
