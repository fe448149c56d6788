"""Fusion "pixel": colours and rays of each pixel, concatenated."""

import torch
from jaxtyping import Float
from torch import Tensor

from openrayzer.interfaces import FUSIONS, Fusion
from openrayzer.layers.patches import PatchLinear, scale_pixels


@FUSIONS.register("pixel")
class PixelFusion(Fusion):
    """One linear map from the colours and Plücker rays of a patch to a token, as in LVSM.

    Args:
        width: token width d.
        patch_size: side of a patch in pixels.
        pixel_range: values of black and white; (-1, 1) in LVSM, (0, 1) in Open-RayZer.
    """

    reads_tokens = False

    def __init__(self, *, width: int, patch_size: int, pixel_range: tuple[float, float] = (-1.0, 1.0)) -> None:
        super().__init__()
        self.width, self.patch_size, self.pixel_range = width, patch_size, pixel_range
        self.patches = PatchLinear(channels=9, patch_size=patch_size, width=width)

    def forward(
        self,
        images: Float[Tensor, "b v 3 h w"],
        tokens: Float[Tensor, "b v t d"],
        plucker: Float[Tensor, "b v 6 h w"],
    ) -> Float[Tensor, "b v n d"]:
        return self.patches(torch.cat([scale_pixels(images, self.pixel_range), plucker.to(images.dtype)], dim=2))
