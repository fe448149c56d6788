"""Renderer ``plane_sweep``: depth by comparing the context views on planes, colours from the context views."""

import math
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from openrayzer.geometry.precision import full_precision, no_autocast, product, transform
from openrayzer.interfaces import RENDERERS, ImageRenderer, InputError, RenderedViews
from openrayzer.layers.zeroed import zeroed
from openrayzer.types import Cameras

_NEAREST = 0.05
"""Smallest depth of a point in a context camera, in units of the scene."""
_FEATURES = 12
_SQUEEZED = 16
_UNSEEN = 6.0
"""Score that a context view loses where it does not show the point."""


@RENDERERS.register("plane_sweep")
class PlaneSweep(ImageRenderer):
    """Renders a target view in three steps; the number of context views and the image size are free.

    1. On a grid of half the image size, the features of all context views are sampled at ``planes`` inverse depths.
       Where the depth is right, they agree: their variance is the cost of the plane. A U-net corrects the costs, and a
       softmax over planes gives the expected inverse depth.
    2. The colours of every context view are fetched at this depth in full resolution and blended; nearby cameras count
       most, and views that do not see the point do not count.
    3. A small network adds a correction to the blended picture.

    The renderer never sees the pixels of the target view.

    Args:
        planes: number of inverse depths.
        nearest: largest inverse depth, in units of the mean inverse depth of the scene.
        farthest: smallest inverse depth.
        width: channels of the U-net.
        activation_checkpointing: n recomputes every n-th target view in the backward pass, to save memory; 0 recomputes
            none. Memory of the sweep is then that of one target view.

    Raises:
        InputError: there are fewer than 2 planes, the inverse depths are not in order, or ``activation_checkpointing``
            is negative.

    Source: Collins 1996, "A Space-Sweep Approach to True Multi-Image Matching"; the blending of warped context colours
    as in Hedman et al. 2018, "Deep Blending for Free-Viewpoint Image-Based Rendering".
    """

    inverse_depths: Tensor

    def __init__(
        self,
        *,
        planes: int = 24,
        nearest: float = 2.6,
        farthest: float = 0.12,
        width: int = 48,
        activation_checkpointing: int = 0,
    ) -> None:
        super().__init__()
        if planes < 2 or not 0 < farthest < nearest:
            raise InputError(
                "plane_sweep needs 2 or more planes and 0 < farthest < nearest, "
                f"got planes {planes}, farthest {farthest}, nearest {nearest}"
            )
        if activation_checkpointing < 0:
            raise InputError(f"activation_checkpointing must be 0 (off) or more, got {activation_checkpointing}")
        self.checkpoint_every = activation_checkpointing
        self.register_buffer("inverse_depths", torch.linspace(farthest, nearest, planes), persistent=False)
        self.feature = nn.Sequential(
            nn.Conv2d(3, 24, 5, stride=2, padding=2), nn.GELU(), nn.Conv2d(24, 24, 3, padding=1), nn.GELU(),
            nn.Conv2d(24, _FEATURES, 3, padding=1),
        )  # fmt: skip
        self.feature_scale = nn.Parameter(torch.tensor([0.1]))
        self.log_sharpness = nn.Parameter(torch.tensor([math.log(150.0)]))
        self.costs = _UNet(2 * planes + 3 + _FEATURES, width)
        self.plane_logits = zeroed(nn.Conv2d(width, planes, 1))
        self.view_score = nn.Sequential(
            nn.Conv2d(8, 16, 3, padding=1), nn.GELU(), zeroed(nn.Conv2d(16, 1, 3, padding=1))
        )
        self.preference_for_near = nn.Parameter(torch.tensor([2.0]))
        self.squeeze = nn.Conv2d(width, _SQUEEZED, 1)
        self.correction = nn.Sequential(
            nn.Conv2d(10 + _SQUEEZED, 32, 3, padding=1), nn.GELU(), nn.Conv2d(32, 32, 3, padding=1), nn.GELU(),
            zeroed(nn.Conv2d(32, 3, 3, padding=1)),
        )  # fmt: skip

    def prepare(self, images: Float[Tensor, "b v 3 h w"]) -> tuple[Tensor, ...]:
        """Features of the context views at half resolution: (b, v, 15, h / 2, w / 2)."""
        flat = images.flatten(0, 1)
        learned = full_precision(self.feature(flat - 0.5))
        small = F.interpolate(full_precision(flat), learned.shape[-2:], mode="area")
        features = torch.cat([small, self.feature_scale * learned], dim=1)
        return (features.unflatten(0, images.shape[:2]),)

    def forward(
        self,
        images: Float[Tensor, "b vc 3 h w"],
        context: Cameras,
        cameras: Cameras,
        *,
        prepared: tuple[Tensor, ...] = (),
    ) -> RenderedViews:
        (features,) = prepared or self.prepare(images)
        images = full_precision(images)
        if self.checkpoint_every and self.training:
            single = [self._single(number, images, features, context, cameras) for number in range(cameras.num_views)]
            image, inverse_depth, confidence = (torch.cat(maps, dim=1) for maps in zip(*single, strict=True))
        else:
            image, inverse_depth, confidence = self._rendered(images, features, context, cameras)
        return RenderedViews(image, {"depth": 1 / inverse_depth, "confidence": confidence})

    def _single(
        self, number: int, images: Tensor, features: Tensor, context: Cameras, cameras: Cameras
    ) -> tuple[Tensor, Tensor, Tensor]:
        """One target view; see ``checkpoint_every``."""
        given = images, features, context, _only(cameras, number)
        if number % self.checkpoint_every:
            return self._rendered(*given)
        return checkpoint(self._rendered, *given, use_reentrant=False, preserve_rng_state=False)

    def _rendered(
        self, images: Tensor, features: Tensor, context: Cameras, cameras: Cameras
    ) -> tuple[Float[Tensor, "b vt 3 h w"], Float[Tensor, "b vt 1 h w"], Float[Tensor, "b vt 1 h w"]]:
        """Images, inverse depths and confidences of the target views."""
        b, vt = cameras.c2w.shape[:2]
        size = (images.shape[-2], images.shape[-1])
        with no_autocast(images):
            pair = _Pair(cameras, context, *_relative_poses(cameras, context))
        hidden, coarse, confidence = self._depth(features, pair)
        inverse_depth = _enlarged(coarse, size).unflatten(0, (b, vt))
        blend, extra, seen = self._blend(images, pair, inverse_depth)
        squeezed = _enlarged(full_precision(self.squeeze(hidden)), size)
        known = torch.cat([extra.flatten(0, 1), squeezed], dim=1)
        correction = full_precision(self.correction(known)).unflatten(0, (b, vt))
        confidence = _enlarged(confidence, size).unflatten(0, (b, vt)) * seen
        return blend + correction, inverse_depth, confidence

    def _depth(self, features: Tensor, pair: "_Pair") -> tuple[Tensor, Tensor, Tensor]:
        """Hidden channels, expected inverse depth and its confidence, (b * vt, channels, rows, cols)."""
        b, vt, vc = pair.rotation.shape[:3]
        with no_autocast(features):
            mean, variance, count = self._compared(features, pair)
            smooth = F.avg_pool2d(variance.flatten(0, 1), 3, stride=1, padding=1, count_include_pad=False)
            cost = 0.3 * variance + 0.7 * smooth.unflatten(0, (b, vt))
            logits = -self.log_sharpness.exp() * cost - (vc - count)
            expected = (mean * logits.softmax(2)[:, :, None]).sum(3)
            known = torch.cat([logits.clamp(min=-8) / 4, count - 2, expected], dim=2).flatten(0, 1)
        hidden = self.costs(known)
        residual = full_precision(self.plane_logits(hidden))
        with no_autocast(features):
            shares = (logits.flatten(0, 1) + residual).softmax(1)
            planes = self.inverse_depths[:, None, None]
            depth = (shares * planes).sum(1, keepdim=True)
            spread = (shares * (planes - depth).square()).sum(1, keepdim=True).sqrt()
            confidence = torch.exp(-spread / (4 * (self.inverse_depths[1] - self.inverse_depths[0])))
        return hidden, depth, confidence

    def _compared(self, features: Tensor, pair: "_Pair") -> tuple[Tensor, Tensor, Tensor]:
        """Mean features of the context views (b, vt, 15, planes, rows, cols), their variance, and how many see a point.

        Running sums over the context views, so that memory does not grow with their number.

        Source: West 1979, "Updating Mean and Variance Estimates: An Improved Method".
        """
        planes = self.inverse_depths[:, None, None].expand(*pair.rotation.shape[:2], -1, *features.shape[-2:])
        mean = features.new_zeros(*planes.shape[:2], features.shape[2], *planes.shape[2:])
        total, squares, count = torch.zeros_like(planes), torch.zeros_like(planes), torch.zeros_like(planes)
        for view in range(features.shape[1]):
            values, inside = (found[:, :, 0] for found in _fetch(features[:, view, None], pair.only(view), planes))
            weights = inside + 1e-4
            total = total + weights
            difference = values - mean
            mean = mean + difference * (weights / total)[:, :, None]
            squares = squares + weights * (difference * (values - mean)).sum(2)
            count = count + inside
        return mean, squares / total, count

    def _blend(self, images: Tensor, pair: "_Pair", inverse_depth: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The blended colours, maps (b, vt, 10, h, w) for their correction, and whether a context view sees a point."""
        size = (images.shape[-2], images.shape[-1])
        with no_autocast(images):
            colours, inside = _fetch(images, pair, inverse_depth, mode="bicubic")
            colours, inside = colours[..., 0, :, :], inside[..., 0, :, :]
            distance = pair.translation.norm(dim=-1)
            distance = distance / distance.mean(dim=-1, keepdim=True).clamp(min=1e-6)
            mean = colours.mean(2, keepdim=True)
            apart = repeat(distance, "b vt vc -> b vt vc 1 h w", h=size[0], w=size[1])
            about = torch.cat([colours - 0.5, colours - mean, inside[:, :, :, None], apart], dim=3)
        scores = full_precision(self.view_score(about.flatten(0, 2))).reshape(inside.shape)
        with no_autocast(images):
            scores = scores - self.preference_for_near * distance[..., None, None] - _UNSEEN * (1 - inside)
            weights = scores.softmax(2)[:, :, :, None]
            blend = (weights * colours).sum(2)
            deviation = (weights * (colours - blend[:, :, None]).square()).sum(2).clamp(min=1e-8).sqrt()
            extra = torch.cat([blend - 0.5, mean[:, :, 0] - 0.5, 4 * deviation, inverse_depth], dim=2)
        return blend, extra, inside.amax(2)[:, :, None]


class _Pair(NamedTuple):
    """Cameras of target and context views, and the poses from each target to each context camera."""

    target: Cameras
    context: Cameras
    rotation: Float[Tensor, "b vt vc 3 3"]
    translation: Float[Tensor, "b vt vc 3"]

    def only(self, view: int) -> "_Pair":
        """The same with a single context view."""
        rotation, translation = self.rotation[:, :, view, None], self.translation[:, :, view, None]
        return _Pair(self.target, _only(self.context, view), rotation, translation)


class _UNet(nn.Module):
    """A network with two resolutions."""

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
        return fine + F.gelu(self.join(torch.cat([fine, _enlarged(coarse, (x.shape[-2], x.shape[-1]))], dim=1)))


def _enlarged(maps: Float[Tensor, "n c rows cols"], size: tuple[int, int]) -> Float[Tensor, "n c h w"]:
    return F.interpolate(maps, size, mode="bilinear", align_corners=False)


def _only(cameras: Cameras, view: int) -> Cameras:
    return Cameras(cameras.c2w[:, view, None], cameras.intrinsics[:, view, None])


def _relative_poses(
    target: Cameras, context: Cameras
) -> tuple[Float[Tensor, "b vt vc 3 3"], Float[Tensor, "b vt vc 3"]]:
    """Rotation and translation from every target camera to every context camera."""
    inverse = full_precision(context.c2w)[:, None, :, :3, :3].mT
    c2w = full_precision(target.c2w)[:, :, None]
    rotation = product(inverse, c2w[..., :3, :3])
    return rotation, transform(inverse, c2w[..., :3, 3] - full_precision(context.c2w)[:, None, :, :3, 3])


def _fetch(
    maps: Float[Tensor, "b vc c rows cols"],
    pair: _Pair,
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
    depth = at[:, :, :, 2].clamp(min=_NEAREST)
    fx, fy, cx, cy = (
        full_precision(value)[:, None, :, None, None, None] for value in pair.context.intrinsics.unbind(-1)
    )
    u, v = fx * at[:, :, :, 0] / depth + cx, fy * at[:, :, :, 1] / depth + cy
    inside = (u > 0) & (u < 1) & (v > 0) & (v < 1) & (at[:, :, :, 2] > _NEAREST)
    places = rearrange(torch.stack([u, v], dim=-1), "b t c p h w two -> (b c) (t p h) w two")
    found = F.grid_sample(maps.flatten(0, 1), 2 * places - 1, mode=mode, align_corners=False, padding_mode="border")
    return rearrange(found, "(b c) f (t p h) w -> b t c f p h w", b=b, t=vt, p=planes), inside.to(found.dtype)
