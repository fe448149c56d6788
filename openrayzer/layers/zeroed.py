"""Layers that start without effect."""

from typing import TypeVar

from torch import nn

Layer = TypeVar("Layer", nn.Conv2d, nn.Linear)


def zeroed(layer: Layer) -> Layer:
    """The layer with all weights zero, so that its output is zero before training."""
    for weights in layer.parameters():
        nn.init.zeros_(weights)
    return layer
