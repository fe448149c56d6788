"""Focal lengths that are held while poses take shape."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from openrayzer.interfaces import CameraHead
from openrayzer.types import Cameras


def hold_focal_lengths(model: nn.Module, *, held: Callable[[], bool]) -> None:
    """Let no gradient reach the intrinsics that camera heads predict in the forward passes in which ``held`` says so.

    It becomes zero instead of missing, as ZeRO waits for a gradient of every weight.
    """

    def hold(head: nn.Module, given: Any, cameras: Cameras) -> None:
        if cameras.intrinsics.requires_grad and held():
            cameras.intrinsics.register_hook(torch.zeros_like)

    for module in model.modules():
        if isinstance(module, CameraHead):
            module.register_forward_hook(hold)
