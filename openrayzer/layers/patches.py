"""Images to patches and back, and the linear maps between patches and tokens."""

import torch
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor, nn

from openrayzer.layers.init import init_linears, init_std
from openrayzer.layers.norm import layer_norm


def patchify(images: Float[Tensor, "b v c h w"], patch_size: int) -> Float[Tensor, "b v n values"]:
    """Square patches, row by row: (b, v, c, h, w) to (b, v, n, p p c) with n = (h / p) (w / p).

    The values of a patch are in the order row, column, channel, with the channel fastest, as in RayZer and LVSM.

    Raises:
        ValueError: height or width is not a multiple of ``patch_size``.
    """
    patch_grid((images.shape[-2], images.shape[-1]), patch_size)
    return rearrange(images, "b v c (y p) (x q) -> b v (y x) (p q c)", p=patch_size, q=patch_size)


def unpatchify(
    values: Float[Tensor, "b v n values"], image_size: tuple[int, int], patch_size: int
) -> Float[Tensor, "b v c h w"]:
    """The inverse of ``patchify``."""
    rows, _ = patch_grid(image_size, patch_size)
    return rearrange(values, "b v (y x) (p q c) -> b v c (y p) (x q)", y=rows, p=patch_size, q=patch_size)


def scale_pixels(images: Float[Tensor, "b v 3 h w"], pixel_range: tuple[float, float]) -> Float[Tensor, "b v 3 h w"]:
    """Map images from [0, 1] to ``pixel_range``, the values of black and white."""
    black, white = pixel_range
    return images * (white - black) + black


def image_size_of(images: Float[Tensor, "b v c h w"]) -> tuple[int, int]:
    """Height and width in pixels."""
    return images.shape[-2], images.shape[-1]


def patch_grid(image_size: tuple[int, int], patch_size: int) -> tuple[int, int]:
    """Rows and columns of patches.

    Raises:
        ValueError: height or width is not a multiple of ``patch_size``.
    """
    height, width = image_size
    if height % patch_size or width % patch_size:
        raise ValueError(f"image size {height} x {width} must be a multiple of the patch size {patch_size}")
    return height // patch_size, width // patch_size


def patch_positions(grid: tuple[int, int], device: torch.device) -> Float[Tensor, "n 2"]:
    """(row, column) of each patch, row by row, counted from 1; (0, 0) stands for tokens that are not a patch."""
    rows = torch.arange(1, grid[0] + 1, device=device, dtype=torch.float32)
    columns = torch.arange(1, grid[1] + 1, device=device, dtype=torch.float32)
    return torch.stack([repeat(rows, "y -> (y x)", x=grid[1]), repeat(columns, "x -> (y x)", y=grid[0])], dim=-1)


class PatchLinear(nn.Module):
    """Patch embedding: one linear map without bias from the values of a patch to a token.

    Args:
        channels: channels c of the images.
        patch_size: side of a patch in pixels.
        width: token width d.
    """

    def __init__(self, *, channels: int, patch_size: int, width: int) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.linear = nn.Linear(channels * patch_size**2, width, bias=False)
        init_linears(self, std=init_std(width))

    def forward(self, images: Float[Tensor, "b v c h w"]) -> Float[Tensor, "b v n d"]:
        return self.linear(patchify(images, self.patch_size).to(self.linear.weight.dtype))


class PatchPixels(nn.Module):
    """Tokens to the pixels of their patches: LayerNorm, linear map, sigmoid; no biases.

    Args:
        width: token width d.
        patch_size: side of a patch in pixels.
        norm_gain: True for a LayerNorm with a learned gain, as in RayZer and LVSM; False as in Open-RayZer.
    """

    def __init__(self, *, width: int, patch_size: int, norm_gain: bool = True) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.norm = layer_norm(width, gain=norm_gain)
        self.linear = nn.Linear(width, 3 * patch_size**2, bias=False)
        init_linears(self, std=init_std(width))

    def forward(self, tokens: Float[Tensor, "b v n d"], image_size: tuple[int, int]) -> Float[Tensor, "b v 3 h w"]:
        """Images in [0, 1], in float32."""
        values = self.linear(self.norm(tokens)).float().sigmoid()
        return unpatchify(values, image_size, self.patch_size)
