"""Precision of geometry: float32 or float64, without autocast and without TF32."""

from contextlib import AbstractContextManager, nullcontext

import torch
from jaxtyping import Float
from torch import Tensor


def full_precision(values: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """``values`` in float32; float64 stays float64."""
    return values if values.dtype == torch.float64 else values.float()


def no_autocast(values: Tensor) -> AbstractContextManager:
    """Context in which autocast is off on the device of ``values``. In bfloat16, rays are wrong by over a pixel."""
    device = values.device.type
    if not torch.amp.is_autocast_available(device):
        return nullcontext()
    return torch.autocast(device_type=device, enabled=False)


def product(first: Float[Tensor, "*#batch i j"], second: Float[Tensor, "*#batch j k"]) -> Float[Tensor, "*#batch i k"]:
    """Matrix product of small matrices; batch axes broadcast.

    It multiplies and sums elements and does not call ``@``, because a GPU may run ``@`` in TF32 with only 10 bits.
    """
    return (first[..., :, :, None] * second[..., None, :, :]).sum(-2)


def transform(matrix: Float[Tensor, "*#batch i j"], vector: Float[Tensor, "*#batch j"]) -> Float[Tensor, "*#batch i"]:
    """Product of a matrix and a vector, computed like ``product``; batch axes broadcast."""
    return (matrix * vector[..., None, :]).sum(-1)
