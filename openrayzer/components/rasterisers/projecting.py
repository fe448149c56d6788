"""Base of rasterisers that share one projection, and differ in the way they blend its ellipses."""

from abc import abstractmethod
from dataclasses import replace
from functools import partial
from typing import ClassVar

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils.checkpoint import checkpoint

from openrayzer.components.rasterisers.ellipses import Ellipses, Extent, project
from openrayzer.geometry.precision import no_autocast
from openrayzer.interfaces import Gaussians, InputError, RasterisedViews, Rasteriser
from openrayzer.types import Cameras, map_tensors

SMALLEST_OPACITY = 1e-8
"""Lower limit of the denominator of the mean depth; it only matters where no Gaussian is."""

SMALLEST_NEAR = 1e-6
"""Lower limit of ``near``; closer Gaussians would overflow."""


class ProjectingRasteriser(Rasteriser):
    """Projects chunks of views with gradients to everything, and leaves the blending to ``draw``.

    Args:
        near: Gaussians with a smaller z-depth are invisible, in units of the scene.
        extent: see ``ellipses.Extent``.
        chunk: number of Gaussians, counted once per view, in one pass. Several passes take less memory; in training
            they compute everything twice.
        prune: whether each pass leaves out the Gaussians that its views do not see before it computes gradients and
            harmonics. The views stay the same. It saves time and memory where views see a part of the scene; a CUDA
            device has to wait for the number of seen Gaussians.

    Attributes:
        name: registered name of the rasteriser.
    """

    name: ClassVar[str]

    def __init__(self, *, near: float = 0.2, extent: Extent = "box", chunk: int = 2**23, prune: bool = False) -> None:
        super().__init__()
        if near < SMALLEST_NEAR:
            raise InputError(f"near must be {SMALLEST_NEAR} or more, got {near}")
        if chunk < 1:
            raise InputError(f"chunk must be 1 or more, got {chunk}")
        self.near, self.extent, self.chunk, self.prune = near, extent, chunk, prune

    def refusal(self, device: torch.device) -> str:
        """Empty by default: plain PyTorch draws on every device."""
        return ""

    @abstractmethod
    def draw(
        self, ellipses: Ellipses, values: Float[Tensor, "4 b v k"], image_size: tuple[int, int]
    ) -> tuple[Float[Tensor, "b v 4 h w"], Float[Tensor, "b v 1 h w"]]:
        """Sums of the values over the Gaussians of each pixel, and the share of light that passes all of them."""

    def rasterise(
        self,
        gaussians: Gaussians,
        cameras: Cameras,
        image_size: tuple[int, int],
        *,
        background: Float[Tensor, "b v 3"],
    ) -> RasterisedViews:
        if not isinstance(gaussians.means, FakeTensor) and (refusal := self.refusal(gaussians.means.device)):
            raise InputError(f"rasteriser {self.name!r} cannot run: {refusal}; or take 'auto' or 'torch'")
        size = self._views_at_once(gaussians)
        pieces = list(
            zip(*(part.split(size, dim=1) for part in (cameras.c2w, cameras.intrinsics, background)), strict=True)
        )
        render = partial(self._views, gaussians, image_size)
        if len(pieces) > 1 and torch.is_grad_enabled():
            render = partial(checkpoint, render, use_reentrant=False)
        with no_autocast(gaussians.means):
            views = zip(*(render(*piece) for piece in pieces), strict=True)
            return RasterisedViews(*(torch.cat(part, dim=1) for part in views))

    def seen(self, gaussians: Gaussians, cameras: Cameras, image_size: tuple[int, int]) -> Bool[Tensor, "b k"]:
        size = self._views_at_once(gaussians)
        plain = replace(gaussians, harmonics=gaussians.harmonics[:, :, :1])  # colours play no part
        found = torch.zeros_like(gaussians.opacities, dtype=torch.bool)
        with torch.no_grad():
            for poses in zip(cameras.c2w.split(size, dim=1), cameras.intrinsics.split(size, dim=1), strict=True):
                ellipses = project(plain, Cameras(*poses), image_size, near=self.near, extent=self.extent)
                found |= ((ellipses.radii > 0).all(0) | ~ellipses.finite[..., None]).any(1)
        return found

    def _views_at_once(self, gaussians: Gaussians) -> int:
        return max(1, self.chunk // max(1, gaussians.opacities.numel()))

    def _views(
        self,
        gaussians: Gaussians,
        image_size: tuple[int, int],
        c2w: Float[Tensor, "b v 4 4"],
        intrinsics: Float[Tensor, "b v 4"],
        background: Float[Tensor, "b v 3"],
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Images, depth and opacity."""
        cameras = Cameras(c2w, intrinsics)
        if self.prune and not isinstance(c2w, FakeTensor):
            gaussians = _chosen(gaussians, self.seen(gaussians, cameras, image_size))
        ellipses = project(gaussians, cameras, image_size, near=self.near, extent=self.extent)
        values = torch.cat([ellipses.colours, ellipses.depths[None]])
        draw = _without_data if isinstance(values, FakeTensor) else self.draw
        sums, passed = draw(ellipses, values, image_size)
        colours, depth = sums.split([3, 1], dim=2)
        missing = torch.where(ellipses.finite, 0.0, torch.nan).to(colours.dtype)
        opacity = 1 - passed
        images = colours + passed * rearrange(background, "b v c -> b v c 1 1") + missing[:, :, None, None, None]
        return images, depth / opacity.clamp(min=SMALLEST_OPACITY), opacity


def _chosen(gaussians: Gaussians, seen: Bool[Tensor, "b k"]) -> Gaussians:
    """The seen Gaussians of each scene in their order; unseen ones fill scenes up to the largest number, at least 1."""
    count = max(1, int(seen.sum(1).max()))
    if count == gaussians.num_gaussians:
        return gaussians
    places = seen.byte().argsort(dim=1, descending=True, stable=True)[:, :count]
    rows = torch.arange(len(places), device=places.device)[:, None]
    return map_tensors(gaussians, lambda values: values[rows, places])


def _without_data(
    ellipses: Ellipses, values: Float[Tensor, "4 b v k"], image_size: tuple[int, int]
) -> tuple[Float[Tensor, "b v 4 h w"], Float[Tensor, "b v 1 h w"]]:
    """Results of the right shape, with gradients, for tensors without data, as in planning: they have no lists."""
    light = ellipses.centres.mean(0) + ellipses.conics.mean(0) + ellipses.opacities
    sums, passed = (
        rearrange(part.mean(-1), "c b v -> b v c 1 1").expand(-1, -1, -1, *image_size) for part in (values, light[None])
    )
    return sums, passed
