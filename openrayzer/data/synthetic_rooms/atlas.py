"""Texture atlas of a synthetic room, with mip levels against aliasing."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float, Int, UInt8

from openrayzer.data.synthetic_rooms.painting import SIZE, Texture

LEVELS = 7
_SIZES = (SIZE >> np.arange(LEVELS)).astype(np.float32)


@dataclass(frozen=True)
class Atlas:
    """All textures of a room at all mip levels in one picture, so that one call of ``cv2.remap`` serves every pixel.

    Attributes:
        picture: texture i at level l is a square of ``SIZE >> l`` texels with a margin of one texel.
        left: first column of each texture, without the margin.
        top: first row of each level, without the margin.
    """

    picture: UInt8[np.ndarray, "rows columns 3"]
    left: Float[np.ndarray, " textures"]
    top: Float[np.ndarray, " levels"]

    def coordinates(
        self,
        texture: Int[np.ndarray, "h w"],
        level: Int[np.ndarray, "h w"],
        u: Float[np.ndarray, "h w"],
        v: Float[np.ndarray, "h w"],
    ) -> tuple[Float[np.ndarray, "h w"], Float[np.ndarray, "h w"]]:
        """Columns and rows in the picture for ``cv2.remap``; ``u`` and ``v`` lie in [0, 1]."""
        size = _SIZES.take(level)
        return u * size + (self.left - 0.5).take(texture), v * size + (self.top - 0.5).take(level)


def build_atlas(textures: Sequence[Texture], tiled: Sequence[bool]) -> Atlas:
    """Build an atlas of textures; values are clipped to [0, 1]. The margin of ``tiled`` textures wraps around."""
    pitch = SIZE + 2
    tops = 1 + np.concatenate([[0], np.cumsum(_SIZES + 2)[:-1]]).astype(np.float32)
    picture = np.zeros((int(tops[-1] + _SIZES[-1] + 1), pitch * len(textures), 3), np.uint8)
    for number, (texture, wraps) in enumerate(zip(textures, tiled, strict=True)):
        level_texture: np.ndarray = np.clip(texture * 255 + np.float32(0.5), 0, 255).astype(np.uint8)
        for top in tops.astype(int):
            size = len(level_texture)
            border = cv2.BORDER_WRAP if wraps else cv2.BORDER_REPLICATE
            padded = cv2.copyMakeBorder(level_texture, 1, 1, 1, 1, border)
            picture[top - 1 : top + size + 1, number * pitch : number * pitch + size + 2] = padded
            level_texture = cv2.resize(level_texture, (size // 2, size // 2), interpolation=cv2.INTER_AREA)
    return Atlas(picture, (1 + pitch * np.arange(len(textures))).astype(np.float32), tops)
