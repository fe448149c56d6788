"""Tokenizer "linear": one linear map per patch."""

from jaxtyping import Float
from torch import Tensor

from openrayzer.interfaces import TOKENIZERS, Tokenizer
from openrayzer.layers.patches import PatchLinear, scale_pixels


@TOKENIZERS.register("linear")
class LinearTokenizer(Tokenizer):
    """Linear map without bias from the pixels of a patch to a token, as in RayZer and LVSM.

    Args:
        width: token width d.
        patch_size: side of a patch in pixels.
        pixel_range: values of black and white; (-1, 1) in RayZer and LVSM, (0, 1) in Open-RayZer.
    """

    def __init__(self, *, width: int, patch_size: int, pixel_range: tuple[float, float] = (-1.0, 1.0)) -> None:
        super().__init__()
        self.width, self.patch_size, self.pixel_range = width, patch_size, pixel_range
        self.patches = PatchLinear(channels=3, patch_size=patch_size, width=width)

    def forward(self, images: Float[Tensor, "b v 3 h w"]) -> Float[Tensor, "b v n d"]:
        return self.patches(scale_pixels(images, self.pixel_range))
