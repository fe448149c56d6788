"""Renderer ``surface_gaussians``: one Gaussian for each pixel of the context views, on the surfaces that they show."""

import math

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from openrayzer.components.renderers.sweeping import (
    FEATURES,
    CameraPair,
    CostNetwork,
    compared,
    enlarged,
    feature_network,
    features_of,
)
from openrayzer.geometry.precision import full_precision, no_autocast, transform
from openrayzer.geometry.rays import unproject
from openrayzer.geometry.rotations import quaternion_from_rotation
from openrayzer.interfaces import (
    RENDERERS,
    Gaussians,
    InputError,
    Rasteriser,
    RenderedViews,
    SurfaceRenderer,
)
from openrayzer.interfaces.explicit_scenes import CONSTANT_HARMONIC
from openrayzer.layers.image_sampling import blurred, resized
from openrayzer.layers.zeroed import zeroed
from openrayzer.types import Cameras

_SQUEEZED = 16
_VALUES = (1, 3, 1, 3)
"""Values of a Gaussian: logarithms of depth and scales, logit of the opacity, colour; all as changes."""
_LARGEST_SCALE = 4.0
"""Upper limit of scales, in sides of a cell."""
_SMOOTHING = 0.8
"""Blur of the rough inverse depths, in points of their grid."""
_SUSPECT = 0.02
"""Weight of a rough depth with an agreement of 0."""
_LARGEST_CHANGE = 0.5
"""Limit of the last change of the logarithm of a depth."""
_NEAREST = 0.1
"""Smallest depth of the background, in units of the scene."""


@RENDERERS.register("surface_gaussians")
class SurfaceGaussians(SurfaceRenderer):
    """Gaussians on the surfaces that the context views show, one for each pixel, drawn by a rasteriser.

    1. The rough inverse depths are blurred; those that explain the other views count more. A sweep of ``planes``
       inverse depths around them compares the features of the context views, on a grid of half the image size. A
       network corrects the costs, a Gaussian prior prefers the rough depth, and a softmax gives the expected depth.
    2. A network in full resolution predicts for each pixel a last change of the depth, three scales in units of the
       footprint of the pixel, an opacity, and a change of the colour of the pixel. The axes of a Gaussian are those of
       its camera. Before training, all Gaussians are equal up to their footprint and have the colour of their pixel.
    3. The rasteriser draws the Gaussians before a wall that has their mean colour and the depth of their centroid.

    Args:
        rasteriser: draws the Gaussians.
        planes: number of inverse depths.
        span: ratio of the largest inverse depth of a sweep to the rough one, and of the rough one to the smallest.
        width: channels of the network of the sweep.
        pixels_per_gaussian: side in pixels of the square cell that each Gaussian stands for. 1 gives one Gaussian per
            pixel, 2 a quarter of them.
        scale: standard deviation of a Gaussian before training, in units of the side of its cell.
        min_scale: lower limit of scales in the same unit, without a gradient below it. A rasteriser widens every
            Gaussian to about a pixel, so that training with small images makes them narrower than their cells. A
            program that draws such a scene with more pixels shows gaps; 0.5 closes them, at some cost in PSNR.
        opacity: opacity of all Gaussians before training, in (0, 1).

    Raises:
        InputError: an argument is out of range.

    Source: Collins 1996, "A Space-Sweep Approach to True Multi-Image Matching"; Gaussians on the pixels of context
    views as in Charatan et al. 2024, "pixelSplat".
    """

    log_factors: Float[Tensor, " planes"]

    def __init__(
        self,
        *,
        rasteriser: Rasteriser,
        planes: int = 16,
        span: float = 1.6,
        width: int = 48,
        pixels_per_gaussian: int = 1,
        scale: float = 0.35,
        min_scale: float = 0.13,
        opacity: float = 0.9,
    ) -> None:
        super().__init__()
        if planes < 2 or span <= 1 or pixels_per_gaussian < 1:
            raise InputError(
                "surface_gaussians needs 2 or more planes, a span above 1 and 1 or more pixels per Gaussian, "
                f"got {planes}, {span} and {pixels_per_gaussian}"
            )
        if not 0 < min_scale < _LARGEST_SCALE or not 0 < scale < _LARGEST_SCALE or not 0 < opacity < 1:
            raise InputError(
                f"surface_gaussians needs a scale and a min_scale between 0 and {_LARGEST_SCALE:g}, and an opacity "
                f"between 0 and 1; got {scale}, {min_scale} and {opacity}"
            )
        self.rasteriser, self.pixels_per_gaussian = rasteriser, pixels_per_gaussian
        self.log_scale, self.opacity_logit = math.log(scale), math.log(opacity / (1 - opacity))
        self.log_scales = (math.log(min_scale), math.log(_LARGEST_SCALE))
        factors = torch.linspace(-math.log(span), math.log(span), planes)
        self.register_buffer("log_factors", factors, persistent=False)
        self.feature, self.feature_scale = feature_network(), nn.Parameter(torch.tensor([0.1]))
        self.log_sharpness = nn.Parameter(torch.tensor([math.log(150.0)]))
        self.log_trust = nn.Parameter(torch.tensor([math.log(0.15)]))
        self.costs = CostNetwork(2 * planes + 3 + FEATURES + 2, width)
        self.plane_logits = zeroed(nn.Conv2d(width, planes, 1))
        self.squeeze = nn.Conv2d(width, _SQUEEZED, 1)
        self.head = nn.Sequential(
            nn.Conv2d(8 + _SQUEEZED, 32, 3, padding=1), nn.GELU(), nn.Conv2d(32, 32, 3, padding=1), nn.GELU(),
            zeroed(nn.Conv2d(32, sum(_VALUES), 3, padding=1)),
        )  # fmt: skip

    def gaussians(
        self,
        images: Float[Tensor, "b v 3 h w"],
        cameras: Cameras,
        inverse_depth: Float[Tensor, "b v rows cols"],
        agreement: Float[Tensor, "b v rows cols"],
    ) -> Gaussians:
        cell = self.pixels_per_gaussian
        size = (max(1, images.shape[-2] // cell), max(1, images.shape[-1] // cell))
        flat = resized(full_precision(images).flatten(0, 1), size)
        hidden, log_inverse, confidence = self._swept(images, cameras, inverse_depth, agreement)
        maps = enlarged(torch.cat([log_inverse, confidence], dim=1), size)
        squeezed = enlarged(full_precision(self.squeeze(hidden)), size)
        known = torch.cat([flat - 0.5, 4 * (flat - blurred(flat, 1.0)), maps, squeezed], dim=1)
        values = full_precision(self.head(known))
        with no_autocast(images):
            views = images.shape[:2]
            change, scales, logits, colours = (part.unflatten(0, views) for part in values.split(_VALUES, dim=1))
            change = change.clamp(-_LARGEST_CHANGE, _LARGEST_CHANGE)
            depth = torch.exp(change - maps[:, :1].unflatten(0, views))
            pixel = depth / _focal_lengths(cameras, size)
            rotations = quaternion_from_rotation(cameras.c2w[..., :3, :3])[..., None, None].expand(-1, -1, -1, *size)
            return Gaussians(
                means=_listed(unproject(depth[:, :, 0], cameras)),
                scales=_listed(pixel * (scales + self.log_scale).clamp(*self.log_scales).exp()),
                rotations=_listed(rotations),
                opacities=_listed((logits + self.opacity_logit).sigmoid())[..., 0],
                harmonics=_listed((flat.unflatten(0, views) + colours - 0.5) / CONSTANT_HARMONIC)[:, :, None],
            )

    def forward(self, gaussians: Gaussians, cameras: Cameras, image_size: tuple[int, int]) -> RenderedViews:
        with no_autocast(gaussians.means):
            colour = 0.5 + CONSTANT_HARMONIC * gaussians.harmonics[:, :, 0].mean(dim=1)
            seen = self.rasteriser.rasterise(
                gaussians, cameras, image_size, background=colour[:, None].expand(-1, cameras.num_views, 3)
            )
            c2w = full_precision(cameras.c2w)
            towards = gaussians.means.mean(dim=1)[:, None] - c2w[..., :3, 3]
            behind = transform(c2w[..., :3, :3].mT, towards)[..., 2].clamp(min=_NEAREST)[..., None, None, None]
            depth = seen.opacity * seen.depth + (1 - seen.opacity) * behind
        return RenderedViews(seen.images, {"depth": depth, "opacity": seen.opacity})

    def _swept(
        self, images: Tensor, cameras: Cameras, inverse_depth: Tensor, agreement: Tensor
    ) -> tuple[Float[Tensor, "n width rows cols"], Float[Tensor, "n 1 rows cols"], Float[Tensor, "n 1 rows cols"]]:
        """Hidden channels, logarithm of the inverse depth and its confidence at half the image size."""
        features = features_of(images, self.feature, self.feature_scale)
        with no_autocast(images):
            size = (features.shape[-2], features.shape[-1])
            rough = enlarged(_smoothed(inverse_depth, agreement), size)
            log_planes = rough[:, :1] + self.log_factors[:, None, None]
            planes = log_planes.exp().unflatten(0, images.shape[:2])
            mean, cost, count = (
                part.flatten(0, 1) for part in compared(features, CameraPair.of(cameras, cameras), planes)
            )
            prior = (self.log_factors / self.log_trust.exp()).square()[:, None, None] / 2
            logits = -self.log_sharpness.exp() * cost - (images.shape[1] - count) - prior
            expected = (mean * logits.softmax(1)[:, None]).sum(2)
            seen = count / images.shape[1]
            known = torch.cat([logits.clamp(min=-8) / 4, seen, expected, rough], dim=1)
        hidden = self.costs(known)
        residual = full_precision(self.plane_logits(hidden))
        with no_autocast(images):
            shares = (logits + residual).softmax(1)
            log_inverse = (shares * log_planes).sum(1, keepdim=True)
            spread = (shares * (log_planes - log_inverse).square()).sum(1, keepdim=True).sqrt()
            return hidden, log_inverse, torch.exp(-4 * spread)


def _smoothed(
    inverse_depth: Float[Tensor, "b v rows cols"], agreement: Float[Tensor, "b v rows cols"]
) -> Float[Tensor, "n 2 rows cols"]:
    """Logarithms of the blurred inverse depths, in which points of high agreement count more, and the agreement."""
    inverse_depth, agreement = (full_precision(maps.flatten(0, 1)[:, None]) for maps in (inverse_depth, agreement))
    weights = agreement + _SUSPECT
    mean = blurred(weights * inverse_depth, _SMOOTHING) / blurred(weights, _SMOOTHING)
    return torch.cat([mean.log(), agreement], dim=1)


def _focal_lengths(cameras: Cameras, size: tuple[int, int]) -> Float[Tensor, "b v 3 1 1"]:
    """Focal lengths along the three axes of a camera in cells: fx, fy, and their mean for the optical axis."""
    fx, fy = full_precision(cameras.intrinsics)[..., :2].unbind(-1)
    fx, fy = fx * size[1], fy * size[0]
    return torch.stack([fx, fy, (fx + fy) / 2], dim=-1)[..., None, None]


def _listed(maps: Float[Tensor, "b v c h w"]) -> Float[Tensor, "b k c"]:
    """Values of all cells in the order of the Gaussians: view, row, column."""
    return rearrange(maps, "b v c h w -> b (v h w) c")
