"""Sweeps: features of context views, fetched and compared at several inverse depths of each pixel of a view."""

from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from openrayzer.geometry.precision import full_precision, product, transform
from openrayzer.types import Cameras

NEAREST = 0.05
"""Smallest depth of a point in a context camera, in units of the scene."""
FEATURES = 12
"""Learned channels of a context view, beside its colours."""


def feature_network() -> nn.Sequential:
    """Images less 0.5 to ``FEATURES`` channels at half resolution."""
    return nn.Sequential(
        nn.Conv2d(3, 24, 5, stride=2, padding=2), nn.GELU(), nn.Conv2d(24, 24, 3, padding=1), nn.GELU(),
        nn.Conv2d(24, FEATURES, 3, padding=1),
    )  # fmt: skip


def features_of(
    images: Float[Tensor, "b v 3 h w"], network: nn.Module, scale: Float[Tensor, "1"]
) -> Float[Tensor, "b v features rows cols"]:
    """Colours and scaled learned channels of context views at half resolution."""
    flat = images.flatten(0, 1)
    learned = full_precision(network(flat - 0.5))
    small = F.interpolate(full_precision(flat), learned.shape[-2:], mode="area")
    return torch.cat([small, scale * learned], dim=1).unflatten(0, images.shape[:2])


class CameraPair(NamedTuple):
    """Cameras of target and context views, and the poses from each target to each context camera."""

    target: Cameras
    context: Cameras
    rotation: Float[Tensor, "b vt vc 3 3"]
    translation: Float[Tensor, "b vt vc 3"]

    @classmethod
    def of(cls, target: Cameras, context: Cameras) -> "CameraPair":
        """The pair of these cameras."""
        inverse = full_precision(context.c2w)[:, None, :, :3, :3].mT
        c2w = full_precision(target.c2w)[:, :, None]
        rotation = product(inverse, c2w[..., :3, :3])
        offset = c2w[..., :3, 3] - full_precision(context.c2w)[:, None, :, :3, 3]
        return cls(target, context, rotation, transform(inverse, offset))

    def only(self, view: int) -> "CameraPair":
        """The same with a single context view."""
        rotation, translation = self.rotation[:, :, view, None], self.translation[:, :, view, None]
        return CameraPair(self.target, only(self.context, view), rotation, translation)


def only(cameras: Cameras, view: int) -> Cameras:
    """A single view."""
    return Cameras(cameras.c2w[:, view, None], cameras.intrinsics[:, view, None])


def fetch(
    maps: Float[Tensor, "b vc c rows cols"],
    pair: CameraPair,
    inverse_depth: Float[Tensor, "b vt planes h w"],
    mode: Literal["bilinear", "bicubic"] = "bilinear",
) -> tuple[Float[Tensor, "b vt vc c planes h w"], Float[Tensor, "b vt vc planes h w"]]:
    """Maps of the context views at the points of the target views, and 1 where a context view shows the point."""
    b, vt, planes, h, w = inverse_depth.shape
    sides = [(torch.arange(side, device=maps.device, dtype=torch.float32) + 0.5) / side for side in (h, w)]
    y, x = torch.meshgrid(*sides, indexing="ij")
    fx, fy, cx, cy = (full_precision(value)[..., None, None] for value in pair.target.intrinsics.unbind(-1))
    ray = torch.stack([(x - cx) / fx, (y - cy) / fy, torch.ones_like(x).expand(b, vt, h, w)], dim=2)
    turned = (pair.rotation[..., None, None] * ray[:, :, None, None]).sum(4)  # b vt vc 3 h w
    at = turned[:, :, :, :, None] + pair.translation[..., None, None, None] * inverse_depth[:, :, None, None]
    depth = at[:, :, :, 2].clamp(min=NEAREST)
    fx, fy, cx, cy = (
        full_precision(value)[:, None, :, None, None, None] for value in pair.context.intrinsics.unbind(-1)
    )
    u, v = fx * at[:, :, :, 0] / depth + cx, fy * at[:, :, :, 1] / depth + cy
    inside = (u > 0) & (u < 1) & (v > 0) & (v < 1) & (at[:, :, :, 2] > NEAREST)
    places = rearrange(torch.stack([u, v], dim=-1), "b t c p h w two -> (b c) (t p h) w two")
    found = F.grid_sample(maps.flatten(0, 1), 2 * places - 1, mode=mode, align_corners=False, padding_mode="border")
    return rearrange(found, "(b c) f (t p h) w -> b t c f p h w", b=b, t=vt, p=planes), inside.to(found.dtype)


def compared(
    features: Float[Tensor, "b vc c rows cols"], pair: CameraPair, planes: Float[Tensor, "b vt planes rows cols"]
) -> tuple[
    Float[Tensor, "b vt c planes rows cols"],
    Float[Tensor, "b vt planes rows cols"],
    Float[Tensor, "b vt planes rows cols"],
]:
    """Mean features of the context views at each inverse depth, their cost, and how many views see the point.

    The cost is the variance of the features, smoothed over 3 x 3 pixels. Running sums over the context views keep the
    memory independent of their number.

    Source: West 1979, "Updating Mean and Variance Estimates: An Improved Method".
    """
    mean = features.new_zeros(*planes.shape[:2], features.shape[2], *planes.shape[2:])
    total, squares, count = torch.zeros_like(planes), torch.zeros_like(planes), torch.zeros_like(planes)
    for view in range(features.shape[1]):
        values, inside = (found[:, :, 0] for found in fetch(features[:, view, None], pair.only(view), planes))
        weights = inside + 1e-4
        total = total + weights
        difference = values - mean
        mean = mean + difference * (weights / total)[:, :, None]
        squares = squares + weights * (difference * (values - mean)).sum(2)
        count = count + inside
    variance = squares / total
    smooth = F.avg_pool2d(variance.flatten(0, 1), 3, stride=1, padding=1, count_include_pad=False)
    return mean, 0.3 * variance + 0.7 * smooth.unflatten(0, planes.shape[:2]), count


class CostNetwork(nn.Module):
    """A convolutional network with two resolutions, for costs and features of a sweep."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, width, 3, padding=1)
        self.down = nn.Conv2d(width, width, 3, stride=2, padding=1)
        self.coarse = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(2))
        self.join = nn.Conv2d(2 * width, width, 3, padding=1)

    def forward(self, x: Float[Tensor, "n channels h w"]) -> Float[Tensor, "n width h w"]:
        fine = F.gelu(self.first(x))
        coarse = F.gelu(self.down(fine))
        for layer in self.coarse:
            coarse = coarse + F.gelu(layer(coarse))
        return fine + F.gelu(self.join(torch.cat([fine, enlarged(coarse, (x.shape[-2], x.shape[-1]))], dim=1)))


def enlarged(maps: Float[Tensor, "n c rows cols"], size: tuple[int, int]) -> Float[Tensor, "n c h w"]:
    """Maps of another size, by bilinear interpolation."""
    return F.interpolate(maps, size, mode="bilinear", align_corners=False)
