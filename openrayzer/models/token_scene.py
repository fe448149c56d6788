"""Scenes that consist of tokens."""

from dataclasses import dataclass

import torch
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
    """

    tokens: Float[Tensor, "b k d"]
    positions: Float[Tensor, "b k 2"]
    prepared: tuple[Tensor, ...] = ()

    def joined(self, later: "TokenScene") -> "TokenScene":
        """The tokens of this scene followed by the tokens of ``later``. The result is not prepared."""
        tokens = torch.cat([self.tokens, later.tokens], dim=1)
        positions = torch.cat([self.positions, later.positions], dim=1)
        return TokenScene(tokens, positions, image_size=self.image_size)
