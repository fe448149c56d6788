"""Focal lengths without gradients during the first steps."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from openrayzer.interfaces import CameraHead
from openrayzer.types import Cameras


def hold_focal_lengths(model: nn.Module, *, held: Callable[[], bool]) -> None:
    """Replace gradients of the intrinsics that camera heads predict by zeros.

    The gradients are zeros, not missing, because ZeRO waits for a gradient of every weight.

    Args:
        model: searched for camera heads.
        held: called in each forward pass; True stops the gradients of that pass.
    """

    def hold(head: nn.Module, given: Any, cameras: Cameras) -> None:
        if cameras.intrinsics.requires_grad and held():
            cameras.intrinsics.register_hook(torch.zeros_like)

    for module in model.modules():
        if isinstance(module, CameraHead):
            module.register_forward_hook(hold)
