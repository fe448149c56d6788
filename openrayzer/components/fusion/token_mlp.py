"""Fusion "token_mlp": an MLP of image tokens and ray tokens."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from openrayzer.interfaces import FUSIONS, Fusion
from openrayzer.layers.init import init_linears, init_std
from openrayzer.layers.patches import PatchLinear


@FUSIONS.register("token_mlp")
class TokenFusion(Fusion):
    """Image tokens and ray tokens concatenated, then LayerNorm, Linear, SiLU, Linear, as in RayZer.

    Args:
        width: token width d.
        patch_size: side of a patch in pixels.
    """

    reads_tokens = True

    def __init__(self, *, width: int, patch_size: int) -> None:
        super().__init__()
        self.width, self.patch_size = width, patch_size
        self.rays = PatchLinear(channels=6, patch_size=patch_size, width=width)
        self.network = nn.Sequential(
            nn.LayerNorm(2 * width, bias=False), nn.Linear(2 * width, width), nn.SiLU(), nn.Linear(width, width)
        )
        init_linears(self.network, std=init_std(width))

    def forward(
        self,
        images: Float[Tensor, "b v 3 h w"],
        tokens: Float[Tensor, "b v t d"],
        plucker: Float[Tensor, "b v 6 h w"],
    ) -> Float[Tensor, "b v n d"]:
        rays = self.rays(plucker)
        return self.network(torch.cat([tokens.to(rays.dtype), rays], dim=-1))
