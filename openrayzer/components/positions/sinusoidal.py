"""Position encoding "sinusoidal": sinusoids of patch position and view index, added to tokens once."""

from typing import Literal

import torch
from einops import rearrange, repeat
from jaxtyping import Float, Int
from torch import Tensor, nn

from openrayzer.interfaces import POSITION_ENCODINGS, InputError, PositionEncoding
from openrayzer.layers.init import init_linears, init_std


@POSITION_ENCODINGS.register("sinusoidal")
class SinusoidalEncoding(PositionEncoding):
    """Sinusoids of row, column and, optionally, view index, through a two-layer MLP, added to tokens.

    With ``image_index``, the first half of the code is spatial and the second half is temporal, and a second MLP maps
    the view index to a code for camera tokens. The index is the position in the list of views that the model sees
    together.

    Args:
        width: token width d; a multiple of 8.
        image_index: True encodes the view index. RayZer needs it to know the order of a video. A model with it works
            best with the number of views that it was trained with.
        counting: how to count rows and columns. "row_major" is correct for all images. "square" reproduces an error of
            RayZer's released code: on square images it is equal, on other images it mixes rows and columns.

    Source: RayZer, section 3; Vaswani et al. 2017 for the frequencies 10000^(-k / (D/2)).
    """

    def __init__(
        self, *, width: int, image_index: bool = True, counting: Literal["row_major", "square"] = "row_major"
    ) -> None:
        super().__init__()
        if width % 8:
            raise InputError(f"sinusoidal needs a width that is a multiple of 8, got {width}")
        self.width, self.image_index, self.counting = width, image_index, counting
        self.reads_view_index = image_index
        self.patch_network = _network(width)
        if image_index:
            self.camera_network = _network(width)

    def embed_patches(
        self, tokens: Float[Tensor, "b v n d"], grid: tuple[int, int], index: Int[Tensor, "b v"]
    ) -> Float[Tensor, "b v n d"]:
        spatial_width = self.width // 2 if self.image_index else self.width
        patches = torch.arange(grid[0] * grid[1], device=tokens.device)
        line = grid[1] if self.counting == "row_major" else grid[0]
        code = torch.cat([sinusoid(place, spatial_width // 2) for place in (patches // line, patches % line)], -1)
        if self.image_index:
            temporal = sinusoid(rearrange(index, "b v -> (b v)"), self.width // 2)
            temporal = repeat(temporal, "(b v) d -> b v n d", b=index.shape[0], n=code.shape[0])
            spatial = repeat(code, "n d -> b v n d", b=index.shape[0], v=index.shape[1])
            code = torch.cat([spatial, temporal], -1)
        return tokens + self.patch_network(code.to(next(self.patch_network.parameters()).dtype))

    def embed_cameras(self, tokens: Float[Tensor, "b v c d"], index: Int[Tensor, "b v"]) -> Float[Tensor, "b v c d"]:
        if not self.image_index:
            return tokens
        code = sinusoid(rearrange(index, "b v -> (b v)"), self.width)
        added = self.camera_network(code.to(next(self.camera_network.parameters()).dtype))
        return tokens + rearrange(added, "(b v) d -> b v 1 d", b=index.shape[0])


def sinusoid(positions: Int[Tensor, " n"], width: int) -> Float[Tensor, "n width"]:
    """[sin(pos w_k) | cos(pos w_k)], w_k = 10000^(-k / (width/2)), in float32."""
    exponents = torch.arange(width // 2, device=positions.device, dtype=torch.float32) / (width // 2)
    angles = positions.float()[:, None] * 10000.0**-exponents
    return torch.cat([angles.sin(), angles.cos()], -1)


def _network(width: int) -> nn.Sequential:
    network = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
    init_linears(network, std=init_std(width))
    return network
