"""Fusion "first_view_rays": the rays of the first context view mark it; all other tokens stay as they are."""

import torch
from jaxtyping import Float
from torch import Tensor

from openrayzer.interfaces import FUSIONS, Fusion
from openrayzer.layers.patches import PatchLinear
from openrayzer.layers.view_shares import SharesViews


@FUSIONS.register("first_view_rays")
class FirstViewRays(Fusion, SharesViews):
    """Image tokens, with the ray tokens of the first context view added to its tokens.

    The poses and intrinsics of the other context views have no influence. The order of these views has none either.

    Args:
        width: token width d.
        patch_size: side of a patch in pixels.

    Source: the "canonical" view of UP-LVSM and PT-LVSM (Wang et al. 2025).
    """

    reads_tokens = True
    keeps_views_apart = False

    def __init__(self, *, width: int, patch_size: int) -> None:
        super().__init__()
        self.width, self.patch_size = width, patch_size
        self.rays = PatchLinear(channels=6, patch_size=patch_size, width=width)

    @property
    def shares_views(self) -> bool:
        return True

    def forward(
        self,
        images: Float[Tensor, "b v 3 h w"],
        tokens: Float[Tensor, "b v t d"],
        plucker: Float[Tensor, "b v 6 h w"],
    ) -> Float[Tensor, "b v n d"]:
        marker = self.rays(plucker[:, :1]) * (self.shares.number == 0)  # that process has the first view of all
        tokens = tokens.to(marker.dtype)
        return torch.cat([tokens[:, :1] + marker, tokens[:, 1:]], dim=1)
