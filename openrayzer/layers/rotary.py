"""Rotations of queries and keys in planes of two components, for rotary position encodings."""

import torch
from jaxtyping import Float
from torch import Tensor

from openrayzer.geometry.precision import full_precision


class PlaneRotation:
    """Rotates the plane of components i and i + k of the last axis, which has 2k components, by angle i.

    (u, v) becomes (u cos - v sin, v cos + u sin), computed in float32 and returned in the dtype of the input. The
    code multiplies and shifts whole rows; work on halves of rows takes three times as long.

    Args:
        angles: angle of each plane in radians.
    """

    def __init__(self, angles: Float[Tensor, "*batch k"]) -> None:
        cosine, sine = angles.cos(), angles.sin()
        self.planes = angles.shape[-1]
        self.cosine, self.sine = torch.cat([cosine, cosine], dim=-1), torch.cat([-sine, sine], dim=-1)

    def __call__(self, values: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        exact = full_precision(values)
        partners = exact.roll(self.planes, dims=-1)
        return torch.addcmul(exact * self.cosine, partners, self.sine).to(values.dtype)
