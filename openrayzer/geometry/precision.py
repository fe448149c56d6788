"""What keeps geometry exact under mixed precision: float32 or better, no autocast, no TF32."""

from contextlib import AbstractContextManager, nullcontext

import torch
from jaxtyping import Float
from torch import Tensor


def full_precision(values: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """``values`` in float32; float64 stays float64."""
    return values if values.dtype == torch.float64 else values.float()


def no_autocast(values: Tensor) -> AbstractContextManager:
    """Switches autocast off on the device of ``values``; bf16 rays would be off by more than a pixel."""
    device = values.device.type
    if not torch.amp.is_autocast_available(device):
        return nullcontext()
    return torch.autocast(device_type=device, enabled=False)


def product(first: Float[Tensor, "*#batch i j"], second: Float[Tensor, "*#batch j k"]) -> Float[Tensor, "*#batch i k"]:
    """Matrix product of small matrices; batch axes broadcast.

    Multiplied out instead of ``@``, because a GPU may run that in TF32, which keeps 10 bits.
    """
    return (first[..., :, :, None] * second[..., None, :, :]).sum(-2)


def transform(matrix: Float[Tensor, "*#batch i j"], vector: Float[Tensor, "*#batch j"]) -> Float[Tensor, "*#batch i"]:
    """Matrix times vector, multiplied out like ``product``; batch axes broadcast."""
    return (matrix * vector[..., None, :]).sum(-1)
