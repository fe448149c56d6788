"""Inverse depth expected from a single image."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from openrayzer.layers.image_sampling import image_points, resized
from openrayzer.layers.zeroed import zeroed

_LARGEST = 1.5
"""Largest logarithm of an inverse depth before normalisation."""


class DepthPrior(nn.Module):
    """Inverse depths with mean 1 over all views of a scene, from each image and the position in the image.

    At first all depths are equal. Training teaches the network the depths that the solver finds.

    Args:
        widths: channels at 1/2, 1/4, 1/8 and 1/16 of the image size.
    """

    def __init__(self, *, widths: tuple[int, ...] = (24, 40, 64, 96)) -> None:
        super().__init__()
        channels = (5, *widths)
        self.down = nn.ModuleList(
            nn.Conv2d(before, after, 3, stride=2, padding=1) for before, after in zip(channels, widths, strict=False)
        )
        self.middle = nn.Conv2d(widths[-1], widths[-1], 3, padding=1)
        self.up = nn.ModuleList(
            nn.Conv2d(coarse + fine, fine, 3, padding=1)
            for fine, coarse in zip(widths[-2:0:-1], widths[:1:-1], strict=True)
        )
        self.last = zeroed(nn.Conv2d(widths[1], 1, 1))

    def forward(self, images: Float[Tensor, "b v 3 h w"], grid: tuple[int, int]) -> Float[Tensor, "b v points"]:
        """Inverse depths at the centres of a grid of points, row by row."""
        flat = images.flatten(0, 1)
        size = (flat.shape[-2], flat.shape[-1])
        places = image_points(size, size, flat.device).permute(2, 0, 1).expand(len(flat), -1, -1, -1)
        x, passed = torch.cat([flat - 0.5, 2 * places], dim=1), list[Tensor]()
        for layer in self.down:
            x = F.gelu(layer(x))
            passed.append(x)
        x = x + F.gelu(self.middle(x))
        for layer, fine in zip(self.up, passed[-2:0:-1], strict=True):
            x = F.gelu(layer(torch.cat([resized(x, (fine.shape[-2], fine.shape[-1])), fine], dim=1)))
        logs = resized(self.last(x), grid).flatten(1).clamp(-_LARGEST, _LARGEST)
        depths = logs.exp().unflatten(0, images.shape[:2])
        return depths / depths.mean(dim=(1, 2), keepdim=True)
