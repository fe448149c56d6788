"""Scenes that a model remembers as tokens."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from openrayzer.types import Scene


@dataclass(frozen=True)
class TokenScene(Scene):
    """Scenes as sequences of tokens.

    Attributes:
        tokens: the memory.
        positions: position of each token, as the model's position encoding counts; (0, 0) for a token without one.
        prepared: tensors that every rendering of the scene shares, once ``Model.prepare`` has computed them.
    """

    tokens: Float[Tensor, "b k d"]
    positions: Float[Tensor, "b k 2"]
    prepared: tuple[Tensor, ...] = ()

    def joined(self, later: "TokenScene") -> "TokenScene":
        """The tokens of this scene followed by those of ``later``; not prepared."""
        tokens = torch.cat([self.tokens, later.tokens], dim=1)
        positions = torch.cat([self.positions, later.positions], dim=1)
        return TokenScene(tokens, positions, image_size=self.image_size)
