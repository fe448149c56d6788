"""Renderer "gaussians": Gaussians on the rays of the context views, drawn by a rasteriser."""

import math
from collections.abc import Callable, Mapping
from typing import Literal

import torch
from einops import rearrange, reduce, repeat
from jaxtyping import Float
from torch import Tensor, nn

from openrayzer.geometry.precision import full_precision, no_autocast
from openrayzer.geometry.rays import ray_directions
from openrayzer.interfaces import (
    RENDERERS,
    GaussianRenderer,
    Gaussians,
    InputError,
    RasterisedViews,
    Rasteriser,
)
from openrayzer.interfaces.explicit_scenes import CONSTANT_HARMONIC
from openrayzer.interfaces.gaussians import MAX_DEGREE
from openrayzer.layers.init import init_linears, init_std
from openrayzer.layers.norm import layer_norm
from openrayzer.layers.patches import image_size_of, patchify
from openrayzer.types import Cameras

Spacing = Literal["linear", "log", "disparity"]
DISTANCES: dict[Spacing, Callable[[Tensor, float, float], Tensor]] = {
    "linear": lambda share, near, far: share * (far - near) + near,
    "log": lambda share, near, far: torch.exp(share * (math.log(far) - math.log(near)) + math.log(near)),
    "disparity": lambda share, near, far: 1 / (share * (1 / near - 1 / far) + 1 / far),
}
"""Distances from shares in [0, 1], by spacing; with "disparity", a share of 0 is far and 1 is near, as published."""


@RENDERERS.register("gaussians")
class PixelGaussians(GaussianRenderer):
    """One Gaussian for each pixel of the context views, on the ray of the pixel, as in E-RayZer.

    A LayerNorm and a linear layer map each token to 3 + 3 (s + 1)^2 + 3 + 4 + 1 values for each Gaussian of its patch:
    distance, spherical harmonics of degree s, log scales, rotation and opacity. The distance is that from the camera
    along the ray, from the mean of its three values m. With the spacing "linear", it is near + sigmoid(m) (far - near).

    Args:
        width: token width d.
        patch_size: side of a patch in pixels.
        rasteriser: draws the Gaussians.
        pixels_per_gaussian: side in pixels of the square cell that each Gaussian stands for; it divides ``patch_size``.
            1 gives one Gaussian per pixel, 2 a quarter of them.
        colours: whether the harmonics are predicted alone, as published ("predicted"), or added to the colour of the
            pixels ("residual"), so that the first renderings already show the context views.
        harmonics_degree: degree s of the spherical harmonics, 0 to 3. With 0, colours do not depend on the direction.
        near: smallest distance of a Gaussian from its camera.
        far: largest distance.
        spacing: whether equal steps of the sigmoid are equal steps of the distance ("linear"), of its logarithm ("log")
            or of its inverse ("disparity"). All but "linear" need ``near`` above 0.
        scale_bias: log scale of all Gaussians before training.
        min_log_scale: lower limit of log scales; without a gradient below it.
        max_log_scale: upper limit of log scales; without a gradient above it.
        opacity_bias: logit of all opacities before training.
        min_opacity_logit: lower limit of the logits of opacities; without a gradient below it.
        background: red, green and blue behind the Gaussians.
        clamp_in_training: whether training clamps rendered images to [0, 1], as published; pixels outside then give no
            gradient.
        opacity_loss: weight of the mean opacity as a loss; 0 as published.
        scale_loss: weight of the mean scale, in units of the scene, as a loss; 0 as published.

    Raises:
        InputError: an argument is out of range.

    Source: Zhao et al. 2026, "E-RayZer", and its released code, with the defaults of its configurations.
    """

    paint: Float[Tensor, " 3"]

    def __init__(
        self,
        *,
        width: int,
        patch_size: int,
        rasteriser: Rasteriser,
        pixels_per_gaussian: int = 1,
        colours: Literal["predicted", "residual"] = "predicted",
        harmonics_degree: int = 3,
        near: float = 0.0,
        far: float = 8.0,
        spacing: Spacing = "linear",
        scale_bias: float = -3.0,
        min_log_scale: float = -10.0,
        max_log_scale: float = -2.0,
        opacity_bias: float = -2.0,
        min_opacity_logit: float = -10.0,
        background: tuple[float, float, float] = (1.0, 1.0, 1.0),
        clamp_in_training: bool = True,
        opacity_loss: float = 0.0,
        scale_loss: float = 0.0,
    ) -> None:
        super().__init__()
        _check(patch_size, pixels_per_gaussian, harmonics_degree, near, far, spacing)
        if min_log_scale >= max_log_scale or min(opacity_loss, scale_loss) < 0:
            raise InputError(
                "min_log_scale must be below max_log_scale, and opacity_loss and scale_loss must be 0 or more; got "
                f"{min_log_scale}, {max_log_scale}, {opacity_loss} and {scale_loss}"
            )
        self.width, self.patch_size, self.rasteriser = width, patch_size, rasteriser
        self.pixels_per_gaussian, self.near, self.far, self.spacing = pixels_per_gaussian, near, far, spacing
        self.scale_bias, self.log_scales = scale_bias, (min_log_scale, max_log_scale)
        self.opacity_bias, self.min_opacity_logit = opacity_bias, min_opacity_logit
        self.clamp_in_training, self.adds_pixels = clamp_in_training, colours == "residual"
        self.loss_weights = {"opacity": opacity_loss, "scale": scale_loss}
        self.register_buffer("paint", torch.tensor(background), persistent=False)
        self.widths = (3, 3 * (harmonics_degree + 1) ** 2, 3, 4, 1)
        self.norm = layer_norm(width)
        self.linear = nn.Linear(width, (patch_size // self.pixels_per_gaussian) ** 2 * sum(self.widths), bias=False)
        init_linears(self.linear, std=init_std(width))

    def gaussians(
        self, tokens: Float[Tensor, "b v n d"], images: Float[Tensor, "b v 3 h w"], cameras: Cameras
    ) -> Gaussians:
        values = self.linear(self.norm(tokens)).float()
        with no_autocast(values):
            values = rearrange(values, "b v n (cell value) -> b (v n cell) value", value=sum(self.widths))
            distance, harmonics, log_scales, rotations, logits = values.split(self.widths, dim=-1)
            harmonics = rearrange(harmonics, "b k (coefficient rgb) -> b k coefficient rgb", rgb=3)
            if self.adds_pixels:
                pixels = (self._cells(area_mean(images.float(), self.pixels_per_gaussian)) - 0.5) / CONSTANT_HARMONIC
                harmonics = torch.cat([harmonics[:, :, :1] + pixels[:, :, None], harmonics[:, :, 1:]], dim=2)
            least, most = self.log_scales
            return Gaussians(
                means=self._means(distance.mean(dim=-1), cameras, image_size_of(images)),
                scales=(log_scales + self.scale_bias).clamp(min=least, max=most).exp(),
                rotations=nn.functional.normalize(rotations, dim=-1),
                opacities=(logits[..., 0] + self.opacity_bias).clamp(min=self.min_opacity_logit).sigmoid(),
                harmonics=harmonics,
            )

    def forward(self, gaussians: Gaussians, cameras: Cameras, image_size: tuple[int, int]) -> RasterisedViews:
        background = self.paint.to(gaussians.means.dtype).expand(*cameras.c2w.shape[:2], 3)
        views = self.rasteriser.rasterise(gaussians, cameras, image_size, background=background)
        if not (self.training and self.clamp_in_training):
            return views
        return RasterisedViews(views.images.clamp(0, 1), views.depth, views.opacity)

    def losses(self, gaussians: Gaussians) -> Mapping[str, Float[Tensor, ""]]:
        means = {"opacity": gaussians.opacities, "scale": gaussians.scales}
        return {name: weight * means[name].mean() for name, weight in self.loss_weights.items() if weight > 0}

    def _means(
        self, values: Float[Tensor, "b k"], cameras: Cameras, image_size: tuple[int, int]
    ) -> Float[Tensor, "b k 3"]:
        """Centres on the rays, in the order view, patch, row and column in the patch."""
        cells = (image_size[0] // self.pixels_per_gaussian, image_size[1] // self.pixels_per_gaussian)
        rays = self._cells(ray_directions(cameras, cells))
        each = rays.shape[1] // cameras.num_views
        centres = repeat(full_precision(cameras.c2w)[..., :3, 3], "b v xyz -> b (v each) xyz", each=each)
        distances = DISTANCES[self.spacing](values.sigmoid(), self.near, self.far)
        return centres + distances[..., None] * rays

    def _cells(self, values: Float[Tensor, "b v 3 y x"]) -> Float[Tensor, "b k 3"]:
        """Values of the cells in the order of the Gaussians."""
        patches = patchify(values, self.patch_size // self.pixels_per_gaussian)
        return rearrange(patches, "b v n (cell c) -> b (v n cell) c", c=3)


def area_mean(images: Float[Tensor, "b v 3 h w"], side: int) -> Float[Tensor, "b v 3 y x"]:
    """Means over square cells of pixels."""
    return reduce(images, "b v c (y i) (x j) -> b v c y x", "mean", i=side, j=side)


def _check(patch_size: int, cell: int, degree: int, near: float, far: float, spacing: Spacing) -> None:
    if cell < 1 or patch_size % cell:
        raise InputError(f"pixels_per_gaussian must divide patch_size {patch_size}, got {cell}")
    if not 0 <= degree <= MAX_DEGREE:
        raise InputError(f"harmonics_degree must be from 0 to {MAX_DEGREE}, got {degree}")
    if not 0 <= near < far < math.inf:
        raise InputError(f"near must be 0 or more and below far, and far finite; got {near} and {far}")
    if near == 0 and spacing != "linear":
        raise InputError(f"near must be above 0 with the spacing {spacing!r}; take e.g. 0.1, or the spacing 'linear'")
