"""Scenes that consist of tokens."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from openrayzer.types import Scene


@dataclass(frozen=True)
class TokenScene(Scene):
    """Scenes as sequences of tokens.

    Attributes:
        tokens: tokens of the scene.
        positions: position of each token for the position encoding of the model; (0, 0) for a token without a position.
        prepared: tensors that all renderings of the scene share, after ``Model.prepare``; empty before.
        earlier: the same tokens after earlier blocks of the encoder, for a renderer that reads several layers and a
            scene that is not prepared; otherwise empty.
    """

    tokens: Float[Tensor, "b k d"]
    positions: Float[Tensor, "b k 2"]
    prepared: tuple[Tensor, ...] = ()
    earlier: tuple[Float[Tensor, "b k d"], ...] = ()
