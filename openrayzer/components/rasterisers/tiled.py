"""Rasteriser "torch": tiles in plain PyTorch, on any device."""

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from openrayzer.components.rasterisers.blending import blend
from openrayzer.components.rasterisers.ellipses import Ellipses
from openrayzer.components.rasterisers.projecting import ProjectingRasteriser
from openrayzer.components.rasterisers.tile_lists import list_tiles
from openrayzer.interfaces import RASTERISERS

SIDE = 8
"""Side of a tile in pixels."""

PAIRS = {"cpu": 2**20}
"""Pairs of a Gaussian and a pixel in one step, by type of device: on a CPU, they stay in the cache."""

MOST_PAIRS = 2**24
"""Pairs in one step on other devices, which need large steps."""


@RASTERISERS.register("torch")
class TiledRasteriser(ProjectingRasteriser):
    """Tiles in plain PyTorch, on any device. It defines the right images; tests compare the others with it.

    Args:
        near: Gaussians with a smaller z-depth are invisible, in units of the scene.
        extent: the pixels that a Gaussian may change: "box" is exact, as in gsplat 1.5; "three_sigma" is the rule of
            gsplat 1.4.0, with which E-RayZer was trained.
        chunk: number of Gaussians, counted once per view, in one pass. Several passes take less memory; in training
            they compute everything twice.
        prune: whether each pass leaves out the Gaussians that its views do not see before it computes gradients and
            harmonics. The views stay the same. It saves time and memory where views see a part of the scene; a CUDA
            device has to wait for the number of seen Gaussians.
    """

    name = "torch"

    def draw(
        self, ellipses: Ellipses, values: Float[Tensor, "4 b v k"], image_size: tuple[int, int]
    ) -> tuple[Float[Tensor, "b v 4 h w"], Float[Tensor, "b v 1 h w"]]:
        lists = list_tiles(ellipses, image_size, side=SIDE)
        table = torch.cat([ellipses.centres, ellipses.conics, ellipses.opacities.log()[None]])
        pairs = PAIRS.get(values.device.type, MOST_PAIRS)
        sums, passed = blend(table.flatten(1), values.flatten(1), lists, pairs=pairs)
        pattern = "(b v y x) c (i j) -> b v c (y i) (x j)"
        axes = {"b": values.shape[1], "v": values.shape[2], "y": lists.grid[0], "x": lists.grid[1], "i": SIDE}
        height, width = image_size
        images = (rearrange(part, pattern, **axes) for part in (sums, passed[:, None]))
        of_values, of_light = (image[..., :height, :width] for image in images)
        return of_values, of_light
