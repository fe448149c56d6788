"""Fusion: colours and rays of a pixel side by side."""

import torch
from jaxtyping import Float
from torch import Tensor

from openrayzer.interfaces import FUSIONS, Fusion
from openrayzer.layers.patches import PatchLinear


@FUSIONS.register("pixel")
class PixelFusion(Fusion):
    """Colours in [-1, 1] and Plücker rays of each pixel, one linear map per patch, as in LVSM.

    Args:
        width: token width d.
        patch_size: side of a patch in pixels.
    """

    reads_tokens = False

    def __init__(self, *, width: int, patch_size: int) -> None:
        super().__init__()
        self.width, self.patch_size = width, patch_size
        self.patches = PatchLinear(channels=9, patch_size=patch_size, width=width)

    def forward(
        self,
        images: Float[Tensor, "b v 3 h w"],
        tokens: Float[Tensor, "b v t d"],
        plucker: Float[Tensor, "b v 6 h w"],
    ) -> Float[Tensor, "b v n d"]:
        return self.patches(torch.cat([images * 2 - 1, plucker.to(images.dtype)], dim=2))
