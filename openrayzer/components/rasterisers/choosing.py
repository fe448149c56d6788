"""Rasteriser "auto": chooses another rasteriser for each device."""

import logging
import os
from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor

from openrayzer.components.rasterisers.ellipses import Ellipses
from openrayzer.components.rasterisers.gsplat import GsplatRasteriser
from openrayzer.components.rasterisers.projecting import ProjectingRasteriser
from openrayzer.components.rasterisers.tiled import TiledRasteriser
from openrayzer.interfaces import RASTERISERS

logger = logging.getLogger(__name__)


@RASTERISERS.register("auto")
class AutoRasteriser(ProjectingRasteriser):
    """The rasteriser "gsplat" on a CUDA device where its kernels pass a trial, otherwise "torch".

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

    name = "auto"

    def draw(
        self, ellipses: Ellipses, values: Float[Tensor, "4 b v k"], image_size: tuple[int, int]
    ) -> tuple[Float[Tensor, "b v 4 h w"], Float[Tensor, "b v 1 h w"]]:
        return chosen(values.device).draw(ellipses, values, image_size)


@cache
def chosen(device: torch.device) -> ProjectingRasteriser:
    """The rasteriser for a device; the log shows it with the reason, and warns if a GPU cannot use the kernels."""
    kernels, tiles = GsplatRasteriser(), TiledRasteriser()
    refusal = kernels.refusal(device)
    if not refusal:
        logger.info("rasteriser on %s: 'gsplat'", device)
        return kernels
    first = os.environ.get("LOCAL_RANK", "0") == "0"  # one warning for each machine
    level = logging.WARNING if device.type == "cuda" and first else logging.INFO
    logger.log(level, "rasteriser on %s: 'torch'; 'gsplat' cannot run: %s", device, refusal)
    return tiles
