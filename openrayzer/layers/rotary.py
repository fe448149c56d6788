"""Rotary positions: the components of queries and keys turn in planes."""

import torch
from jaxtyping import Float
from torch import Tensor

from openrayzer.geometry.precision import full_precision


class PlaneRotation:
    """Turns component i of the last axis with component i + k of 2k, each plane by its own angle.

    (u, v) becomes (u cos - v sin, v cos + u sin), computed in float32 whatever the dtype of what turns, and returned in
    that dtype. Whole rows are multiplied and shifted: halves of them would be many short pieces, three times as slow.

    Args:
        angles: in radians.
    """

    def __init__(self, angles: Float[Tensor, "*batch k"]) -> None:
        cosine, sine = angles.cos(), angles.sin()
        self.planes = angles.shape[-1]
        self.cosine, self.sine = torch.cat([cosine, cosine], dim=-1), torch.cat([-sine, sine], dim=-1)

    def __call__(self, values: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        exact = full_precision(values)
        partners = exact.roll(self.planes, dims=-1)
        return torch.addcmul(exact * self.cosine, partners, self.sine).to(values.dtype)
