"""Tokenizer: one linear map per patch."""

from jaxtyping import Float
from torch import Tensor

from openrayzer.interfaces import TOKENIZERS, Tokenizer
from openrayzer.layers.patches import PatchLinear


@TOKENIZERS.register("linear")
class LinearTokenizer(Tokenizer):
    """A linear map of each patch's pixels, scaled to [-1, 1], without bias, as in RayZer and LVSM.

    Args:
        width: token width d.
        patch_size: side of a patch in pixels.
    """

    def __init__(self, *, width: int, patch_size: int) -> None:
        super().__init__()
        self.width, self.patch_size = width, patch_size
        self.patches = PatchLinear(channels=3, patch_size=patch_size, width=width)

    def forward(self, images: Float[Tensor, "b v 3 h w"]) -> Float[Tensor, "b v n d"]:
        return self.patches(images * 2 - 1)
