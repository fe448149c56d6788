"""Fusion "token_mlp": an MLP of image tokens and ray tokens."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from openrayzer.interfaces import FUSIONS, Fusion, InputError, PositionEncoding
from openrayzer.layers.init import init_linears, init_std
from openrayzer.layers.patches import PatchLinear, image_size_of, patch_grid


@FUSIONS.register("token_mlp")
class TokenFusion(Fusion):
    """Image tokens and ray tokens concatenated, then LayerNorm, Linear, SiLU, Linear, as in RayZer.

    Args:
        width: token width d.
        patch_size: side of a patch in pixels.
        ray_positions: encoding of the positions of ray tokens, with weights of its own, as in E-RayZer; null for none,
            as in RayZer.

    Raises:
        InputError: ``ray_positions`` encodes the position of views in a list.
    """

    reads_tokens = True

    def __init__(self, *, width: int, patch_size: int, ray_positions: PositionEncoding | None = None) -> None:
        super().__init__()
        if ray_positions is not None and ray_positions.reads_view_index:
            raise InputError(
                f"ray_positions {type(ray_positions).__name__} encodes the index of a view, which ray tokens do not "
                'have; take {"type": "sinusoidal", "image_index": false}'
            )
        self.width, self.patch_size = width, patch_size
        self.rays = PatchLinear(channels=6, patch_size=patch_size, width=width)
        self.network = nn.Sequential(
            nn.LayerNorm(2 * width, bias=False), nn.Linear(2 * width, width), nn.SiLU(), nn.Linear(width, width)
        )
        init_linears(self.network, std=init_std(width))
        self.ray_positions = ray_positions

    def forward(
        self,
        images: Float[Tensor, "b v 3 h w"],
        tokens: Float[Tensor, "b v t d"],
        plucker: Float[Tensor, "b v 6 h w"],
    ) -> Float[Tensor, "b v n d"]:
        rays = self.rays(plucker)
        if self.ray_positions is not None:
            views = torch.zeros(rays.shape[:2], dtype=torch.long, device=rays.device)
            rays = self.ray_positions.embed_patches(rays, patch_grid(image_size_of(plucker), self.patch_size), views)
        return self.network(torch.cat([tokens.to(rays.dtype), rays], dim=-1))
