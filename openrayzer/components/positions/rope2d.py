"""Position encoding "rope2d": rotary encoding of rows and columns."""

import torch
from jaxtyping import Float
from torch import Tensor

from openrayzer.interfaces import POSITION_ENCODINGS, InputError, PositionEncoding, Rotation
from openrayzer.layers.rotary import PlaneRotation


@POSITION_ENCODINGS.register("rope2d")
class RotaryEncoding2D(PositionEncoding):
    """Rotary encoding of queries and keys by patch row (first half of a head) and column (second half).

    In each half, components k and k + e/4 form a plane, for k = 0 .. e/4 - 1. Its angle is
    position * base^(-2k / (e/2)) radians. Tokens at (0, 0) stay the same. Angles are float32 for every dtype of the
    heads.

    Args:
        base: base of the frequencies; the lowest is about 1 / base radians per patch.

    Source: Su et al. 2021 (RoFormer), equation 34, for each axis; layout of CroCo v2, Pi3 and Open-RayZer.
    """

    def __init__(self, *, base: float = 100.0) -> None:
        super().__init__()
        self.base = base

    def rotation(self, positions: Float[Tensor, "b n 2"], head_width: int) -> Rotation:
        if head_width % 4:
            raise InputError(f"rope2d needs a head width that is a multiple of 4, got {head_width}")
        quarter = head_width // 4
        exponents = torch.arange(quarter, device=positions.device, dtype=torch.float32) / quarter
        frequencies = self.base**-exponents  # not a buffer: bfloat16 parameters must not round it
        rotate_planes = PlaneRotation(positions.float()[:, :, None, :, None] * frequencies)  # angles (b, n, 1, 2, e/4)

        def rotate(heads: Tensor) -> Tensor:
            return rotate_planes(heads.unflatten(-1, (2, head_width // 2))).flatten(-2)

        return rotate
