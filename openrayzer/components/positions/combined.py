"""Position encoding "combined": several encodings at once."""

from collections.abc import Iterator
from typing import cast

from jaxtyping import Float, Int
from torch import Tensor, nn

from openrayzer.interfaces import POSITION_ENCODINGS, PositionEncoding, Rotation


@POSITION_ENCODINGS.register("combined")
class CombinedEncoding(PositionEncoding):
    """Several encodings at once, e.g. "sinusoidal" for tokens and "rope2d" for queries and keys.

    Rotary encodings put no position into the values of attention, but added codes do. An estimator that matches
    patches between views needs the position of the match.

    Args:
        parts: the encodings; they apply in this order.
    """

    def __init__(self, *, parts: list[PositionEncoding]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)
        self.reads_view_index = any(part.reads_view_index for part in parts)

    def embed_patches(
        self, tokens: Float[Tensor, "b v n d"], grid: tuple[int, int], index: Int[Tensor, "b v"]
    ) -> Float[Tensor, "b v n d"]:
        for part in self._encodings():
            tokens = part.embed_patches(tokens, grid, index)
        return tokens

    def embed_cameras(self, tokens: Float[Tensor, "b v c d"], index: Int[Tensor, "b v"]) -> Float[Tensor, "b v c d"]:
        for part in self._encodings():
            tokens = part.embed_cameras(tokens, index)
        return tokens

    def rotation(self, positions: Float[Tensor, "b n 2"], head_width: int) -> Rotation:
        rotations = [part.rotation(positions, head_width) for part in self._encodings()]

        def rotate(heads: Tensor) -> Tensor:
            for rotation in rotations:
                heads = rotation(heads)
            return heads

        return rotate

    def _encodings(self) -> Iterator[PositionEncoding]:
        return cast(Iterator[PositionEncoding], iter(self.parts))
