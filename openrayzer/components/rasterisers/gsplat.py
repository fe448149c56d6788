"""Rasteriser "gsplat": the CUDA kernels of the gsplat package."""

from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from openrayzer.components.rasterisers.ellipses import Ellipses, project
from openrayzer.components.rasterisers.projecting import ProjectingRasteriser
from openrayzer.components.rasterisers.tile_lists import COARSE
from openrayzer.components.rasterisers.tiled import TiledRasteriser
from openrayzer.interfaces import RASTERISERS, Gaussians
from openrayzer.types import Cameras

AGREEMENT = 1e-3
"""Largest relative difference in the trial; a wrong order of arguments gives more."""

LARGEST_RADIUS = 2.0**24
"""The kernels take radii as 32-bit integers; this is far beyond any image."""


@RASTERISERS.register("gsplat")
class GsplatRasteriser(ProjectingRasteriser):
    """The CUDA kernels of the gsplat package, release 1.5 or later, in float32.

    gsplat's own projection has no gradient for intrinsics, so that its kernels blend the ellipses of our projection.

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

    name = "gsplat"

    def refusal(self, device: torch.device) -> str:
        if device.type != "cuda":
            return f"its kernels need a CUDA device, and the Gaussians are on {device.type}"
        return missing() or _trial_failure(device)

    def draw(
        self, ellipses: Ellipses, values: Float[Tensor, "4 b v k"], image_size: tuple[int, int]
    ) -> tuple[Float[Tensor, "b v 4 h w"], Float[Tensor, "b v 1 h w"]]:
        height, width = image_size
        b, v, _ = ellipses.depths.shape
        columns, rows = -(-width // COARSE), -(-height // COARSE)
        centres, conics, radii, channels = (
            rearrange(part.float(), "c b v k -> (b v) k c").contiguous()
            for part in (ellipses.centres, ellipses.conics, ellipses.radii.clamp(max=LARGEST_RADIUS), values)
        )
        depths, opacities = (part.float().flatten(0, 1) for part in (ellipses.depths, ellipses.opacities))
        library = kernels()
        _, places, members = library.isect_tiles(centres, radii.int(), depths, COARSE, columns, rows)
        offsets = library.isect_offset_encode(places, b * v, columns, rows)
        sums, opacity = library.rasterize_to_pixels(
            centres, conics, channels, opacities, width, height, COARSE, offsets, members
        )
        of_values, of_light = (
            rearrange(part.to(values.dtype), "(b v) h w c -> b v c h w", b=b) for part in (sums, 1 - opacity)
        )
        return of_values, of_light


def missing() -> str:
    """The reason why the package cannot be used, and the command that helps; empty if its functions are there."""
    if find_spec("gsplat") is None:
        return "gsplat is not installed: pip install 'openrayzer[gsplat]'"
    try:
        library = kernels()
    except Exception as error:  # external code may raise any exception
        return f"it cannot be imported: {type(error).__name__}: {error}"
    needed = ("isect_tiles", "isect_offset_encode", "rasterize_to_pixels")
    if lacking := [name for name in needed if not hasattr(library, name)]:
        return f"this release of gsplat has no {lacking[0]}: pip install --upgrade 'gsplat>=1.5'"
    return ""


@cache
def kernels() -> Any:
    """The module gsplat. Its first call may compile for minutes."""
    return import_module("gsplat")


@cache
def _trial_failure(device: torch.device) -> str:
    """Draw a small scene forward and backward, and compare it with the rasteriser "torch".

    Returns the error in one line; empty if there is none. The call runs in a separate thread, so that the caller's
    ``no_grad``, inference mode and autocast do not affect it.

    Raises:
        torch.OutOfMemoryError: the memory is full; this says nothing about the kernels.
    """
    try:
        with ThreadPoolExecutor(max_workers=1) as thread:
            difference = thread.submit(_trial, device).result()
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # external code may raise any exception
        return f"a small call failed: {type(error).__name__}: {' '.join(str(error).split())[:400]}"
    return (
        ""
        if difference < AGREEMENT
        else f"its results differ from those of 'torch' by {difference:.1g} of the largest entry"
    )


def _trial(device: torch.device) -> float:
    """Largest difference of images and of gradients relative to their largest entry."""
    generator = torch.Generator().manual_seed(0)
    means = torch.rand(1, 16, 3, generator=generator) * 2 + torch.tensor([-1.0, -1.0, 2.0])
    scales, rotations = (
        0.2 + 0.2 * torch.rand(1, 16, 3, generator=generator),
        torch.randn(1, 16, 4, generator=generator),
    )
    harmonics = torch.rand(1, 16, 1, 3, generator=generator)
    opacities = torch.linspace(0.1, 0.9, 16)[None]
    given = [part.to(device).requires_grad_() for part in (means, scales, rotations, opacities, harmonics)]
    cameras = Cameras(torch.eye(4).expand(1, 2, 4, 4), torch.tensor([1.0, 1.5, 0.5, 0.5]).expand(1, 2, 4)).to(device)
    found: list[list[Tensor]] = []
    for draw in (TiledRasteriser().draw, GsplatRasteriser().draw):
        ellipses = project(Gaussians(*given), cameras, (20, 28), near=0.2, extent="box")
        sums, light = draw(ellipses, torch.cat([ellipses.colours, ellipses.depths[None]]), (20, 28))
        loss = sums.square().mean() + light.square().mean()
        found.append([sums.detach(), light.detach(), *torch.autograd.grad(loss, given)])
    return max(float((one - other).abs().max() / one.abs().max()) for one, other in zip(*found, strict=True))
