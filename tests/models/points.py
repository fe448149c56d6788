"""A model whose scenes are coloured points instead of tokens; a plugin for tests, small enough to read at once."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from openrayzer.geometry.intrinsics import square_pixel_intrinsics
from openrayzer.geometry.precision import full_precision, no_autocast, transform
from openrayzer.geometry.rays import pixel_grid, ray_directions
from openrayzer.geometry.rotations import se3_exp
from openrayzer.interfaces import MODELS, Model
from openrayzer.layers.float32 import Float32Linear
from openrayzer.types import Cameras, Prediction, Scene, Views

CELL = 4
"""Side in pixels of the square of a context view that becomes one point."""
NEAR = 0.1
"""Points closer than this to the plane of a camera are not drawn."""


@dataclass(frozen=True)
class PointScene(Scene):
    """Scenes as soft coloured points.

    Attributes:
        means: positions of the points.
        sizes: their radii, in units of ``means``.
        colours: their colours in [0, 1].
        opacities: how much they hide, in [0, 1].
    """

    means: Float[Tensor, "b k 3"]
    sizes: Float[Tensor, "b k"]
    colours: Float[Tensor, "b k 3"]
    opacities: Float[Tensor, "b k"]

    def joined(self, later: "PointScene") -> "PointScene":
        """The points of both scenes."""
        names = ("means", "sizes", "colours", "opacities")
        return replace(self, **{name: torch.cat([getattr(self, name), getattr(later, name)], dim=1) for name in names})


@MODELS.register("points")
class Points(Model[PointScene]):
    """Every cell of a context view is one point at a learned depth; points are drawn as soft discs.

    Args:
        width: channels of the two small networks.
        opacity_weight: factor of the mean opacity in the training loss.
    """

    posed = False
    patch_size = CELL

    def __init__(self, *, width: int, opacity_weight: float = 0.01) -> None:
        super().__init__()
        self.opacity_weight = opacity_weight
        self.view_features = nn.Sequential(nn.Conv2d(3, width, CELL, stride=CELL), nn.GELU())
        self.twist = Float32Linear(width, 6)
        self.log_focal = nn.Parameter(torch.zeros(1))
        self.cells = nn.Sequential(nn.Conv2d(3, width, CELL, stride=CELL), nn.GELU(), nn.Conv2d(width, 6, 1))

    def estimate(self, images: Float[Tensor, "b v 3 h w"], intrinsics: Float[Tensor, "b v 4"] | None = None) -> Cameras:
        b, v, _, *size = images.shape
        features = self.view_features(images.flatten(0, 1)).float().mean(dim=(2, 3)).unflatten(0, (b, v))
        focal = self.log_focal.float().exp().expand(b, v)
        known = square_pixel_intrinsics(focal, (size[0], size[1])) if intrinsics is None else full_precision(intrinsics)
        return Cameras(se3_exp(0.1 * self.twist(features)), known)

    def reconstruct(
        self, images: Float[Tensor, "b v 3 h w"], cameras: Cameras, index: Int[Tensor, "b v"] | None = None
    ) -> PointScene:
        b, v, _, height, width = images.shape
        cells = self.cells(images.flatten(0, 1)).float().unflatten(0, (b, v))
        depth, size, opacity = (cells[:, :, channel].sigmoid() for channel in range(3))  # (b, v, rows, columns)
        directions = ray_directions(cameras, (height // CELL, width // CELL))
        means = cameras.c2w[:, :, :3, 3, None, None].float() + directions * (0.5 + 2 * depth[:, :, None])
        return PointScene(
            means=rearrange(means, "b v c y x -> b (v y x) c"),
            sizes=0.02 + 0.2 * size.flatten(1),
            colours=rearrange(cells[:, :, 3:].sigmoid(), "b v c y x -> b (v y x) c"),
            opacities=opacity.flatten(1),
            image_size=(height, width),
        )

    def extend(
        self,
        scene: PointScene,
        images: Float[Tensor, "b v 3 h w"],
        cameras: Cameras,
        index: Int[Tensor, "b v"] | None = None,
    ) -> PointScene:
        self.check_extension(scene, images)
        return scene.joined(self.reconstruct(images, cameras))

    def render(self, scene: PointScene, cameras: Cameras) -> Float[Tensor, "b v 3 h w"]:
        return self._draw(scene, cameras)["image"]

    def render_maps(self, scene: PointScene, cameras: Cameras) -> Mapping[str, Float[Tensor, "b v _ h w"]]:
        drawn = self._draw(scene, cameras)
        return {"depth": drawn["depth"], "opacity": drawn["opacity"]}

    def forward(self, views: Views) -> Prediction:
        """As in ``Model``, with the mean opacity of the points as a loss."""
        cameras = self.cameras_of(views)
        scene = self.reconstruct(views.context_images, cameras.select(views.context), views.context)
        drawn = self._draw(scene, cameras.select(views.target))
        image = drawn.pop("image")
        losses = {"opacity": self.opacity_weight * scene.opacities.mean()}
        return Prediction(image, cameras, losses, {} if self.training else drawn)

    def _draw(self, scene: PointScene, cameras: Cameras) -> dict[str, Float[Tensor, "b v _ h w"]]:
        """Images, depths and opacities: sums over all points, weighted by distance from the ray and by nearness."""
        with no_autocast(cameras.c2w):
            c2w, intrinsics = full_precision(cameras.c2w)[:, :, None], full_precision(cameras.intrinsics)
            points = transform(c2w[..., :3, :3].mT, scene.means[:, None] - c2w[..., :3, 3])  # (b, v, k, 3)
            z = points[..., 2].clamp(min=NEAR)
            grid = pixel_grid(scene.image_size, like=z)
            rays = (grid - intrinsics[:, :, None, None, 2:]) / intrinsics[:, :, None, None, :2]  # (b, v, h, w, 2)
            offsets = rays[..., None, :] - (points[..., :2] / z[..., None])[:, :, None, None]
            radii = scene.sizes[:, None] / z
            nearness = scene.opacities[:, None] * (-z).exp() * (points[..., 2] > NEAR)
            falloff = (-0.5 * offsets.square().sum(-1) / radii.square()[:, :, None, None]).exp()
            weights = falloff * nearness[:, :, None, None]  # (b, v, h, w, k)
            total = weights.sum(-1) + 1e-3
            colours = torch.einsum("bvhwk,bkc->bvchw", weights, scene.colours) + 0.5e-3  # grey where there is no point
            depth = torch.einsum("bvhwk,bvk->bvhw", weights, z)
            opacity = 1 - (-math.e * weights.sum(-1)).exp()
        return {
            "image": colours / total[:, :, None], "depth": (depth / total)[:, :, None], "opacity": opacity[:, :, None],
        }  # fmt: skip
