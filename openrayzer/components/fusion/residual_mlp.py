"""Fusion "residual_mlp": the mean of image tokens and ray tokens plus an MLP of both."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from openrayzer.interfaces import FUSIONS, Fusion
from openrayzer.layers.init import init_linears, init_std
from openrayzer.layers.patches import PatchLinear


@FUSIONS.register("residual_mlp")
class ResidualFusion(Fusion):
    """The mean of image tokens and ray tokens, plus an MLP of both; the MLP has three linear layers with GELU.

    LayerNorms normalise image tokens and ray tokens before the MLP.

    Args:
        width: token width d.
        patch_size: side of a patch in pixels.

    Source: "feature_fuse" of Open-RayZer.
    """

    reads_tokens = True

    def __init__(self, *, width: int, patch_size: int) -> None:
        super().__init__()
        self.width, self.patch_size = width, patch_size
        self.rays = PatchLinear(channels=6, patch_size=patch_size, width=width)
        self.image_norm, self.ray_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.network = nn.Sequential(
            nn.Linear(2 * width, 2 * width), nn.GELU(), nn.Linear(2 * width, 2 * width), nn.GELU(),
            nn.Linear(2 * width, width),
        )  # fmt: skip
        init_linears(self.network, std=init_std(width))

    def forward(
        self,
        images: Float[Tensor, "b v 3 h w"],
        tokens: Float[Tensor, "b v t d"],
        plucker: Float[Tensor, "b v 6 h w"],
    ) -> Float[Tensor, "b v n d"]:
        rays = self.rays(plucker)
        tokens = tokens.to(rays.dtype)
        fused = self.network(torch.cat([self.image_norm(tokens), self.ray_norm(rays)], dim=-1))
        return fused + (tokens + rays) / 2
