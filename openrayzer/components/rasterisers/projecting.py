"""Base of rasterisers that share one projection, and differ in the way they blend its ellipses."""

from abc import abstractmethod
from functools import partial
from typing import ClassVar

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils.checkpoint import checkpoint

from openrayzer.components.rasterisers.ellipses import Ellipses, Extent, project
from openrayzer.geometry.precision import no_autocast
from openrayzer.interfaces import Gaussians, InputError, RasterisedViews, Rasteriser
from openrayzer.types import Cameras

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

    Attributes:
        name: registered name of the rasteriser.
    """

    name: ClassVar[str]

    def __init__(self, *, near: float = 0.2, extent: Extent = "box", chunk: int = 2**23) -> None:
        super().__init__()
        if near < SMALLEST_NEAR:
            raise InputError(f"near must be {SMALLEST_NEAR} or more, got {near}")
        if chunk < 1:
            raise InputError(f"chunk must be 1 or more, got {chunk}")
        self.near, self.extent, self.chunk = near, extent, chunk

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
        size = max(1, self.chunk // max(1, gaussians.means.shape[0] * gaussians.num_gaussians))
        pieces = list(
            zip(*(part.split(size, dim=1) for part in (cameras.c2w, cameras.intrinsics, background)), strict=True)
        )
        render = partial(self._views, gaussians, image_size)
        if len(pieces) > 1 and torch.is_grad_enabled():
            render = partial(checkpoint, render, use_reentrant=False)
        with no_autocast(gaussians.means):
            views = zip(*(render(*piece) for piece in pieces), strict=True)
            return RasterisedViews(*(torch.cat(part, dim=1) for part in views))

    def _views(
        self,
        gaussians: Gaussians,
        image_size: tuple[int, int],
        c2w: Float[Tensor, "b v 4 4"],
        intrinsics: Float[Tensor, "b v 4"],
        background: Float[Tensor, "b v 3"],
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Images, depth and opacity."""
        ellipses = project(gaussians, Cameras(c2w, intrinsics), image_size, near=self.near, extent=self.extent)
        values = torch.cat([ellipses.colours, ellipses.depths[None]])
        draw = _without_data if isinstance(values, FakeTensor) else self.draw
        sums, passed = draw(ellipses, values, image_size)
        colours, depth = sums.split([3, 1], dim=2)
        missing = torch.where(ellipses.finite, 0.0, torch.nan).to(colours.dtype)
        opacity = 1 - passed
        images = colours + passed * rearrange(background, "b v c -> b v c 1 1") + missing[:, :, None, None, None]
        return images, depth / opacity.clamp(min=SMALLEST_OPACITY), opacity


def _without_data(
    ellipses: Ellipses, values: Float[Tensor, "4 b v k"], image_size: tuple[int, int]
) -> tuple[Float[Tensor, "b v 4 h w"], Float[Tensor, "b v 1 h w"]]:
    """Results of the right shape, with gradients, for tensors without data, as in planning: they have no lists."""
    light = ellipses.centres.mean(0) + ellipses.conics.mean(0) + ellipses.opacities
    sums, passed = (
        rearrange(part.mean(-1), "c b v -> b v c 1 1").expand(-1, -1, -1, *image_size) for part in (values, light[None])
    )
    return sums, passed
