"""Renderer ``plane_sweep``: depth by comparing the context views on planes, colours from the context views."""

import math

import torch
from einops import repeat
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from openrayzer.components.renderers.sweeping import (
    FEATURES,
    CameraPair,
    CostNetwork,
    compared,
    enlarged,
    feature_network,
    features_of,
    fetch,
    only,
)
from openrayzer.geometry.precision import full_precision, no_autocast
from openrayzer.interfaces import RENDERERS, ImageRenderer, InputError, RenderedViews
from openrayzer.layers.zeroed import zeroed
from openrayzer.types import Cameras

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
        self.feature = feature_network()
        self.feature_scale = nn.Parameter(torch.tensor([0.1]))
        self.log_sharpness = nn.Parameter(torch.tensor([math.log(150.0)]))
        self.costs = CostNetwork(2 * planes + 3 + FEATURES, width)
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
        return (features_of(images, self.feature, self.feature_scale),)

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
        given = images, features, context, only(cameras, number)
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
            pair = CameraPair.of(cameras, context)
        hidden, coarse, confidence = self._depth(features, pair)
        inverse_depth = enlarged(coarse, size).unflatten(0, (b, vt))
        blend, extra, seen = self._blend(images, pair, inverse_depth)
        squeezed = enlarged(full_precision(self.squeeze(hidden)), size)
        known = torch.cat([extra.flatten(0, 1), squeezed], dim=1)
        correction = full_precision(self.correction(known)).unflatten(0, (b, vt))
        confidence = enlarged(confidence, size).unflatten(0, (b, vt)) * seen
        return blend + correction, inverse_depth, confidence

    def _depth(self, features: Tensor, pair: CameraPair) -> tuple[Tensor, Tensor, Tensor]:
        """Hidden channels, expected inverse depth and its confidence, (b * vt, channels, rows, cols)."""
        b, vt, vc = pair.rotation.shape[:3]
        with no_autocast(features):
            planes = self.inverse_depths[:, None, None].expand(b, vt, -1, *features.shape[-2:])
            mean, cost, count = compared(features, pair, planes)
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

    def _blend(self, images: Tensor, pair: CameraPair, inverse_depth: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The blended colours, maps (b, vt, 10, h, w) for their correction, and whether a context view sees a point."""
        size = (images.shape[-2], images.shape[-1])
        with no_autocast(images):
            colours, inside = fetch(images, pair, inverse_depth, mode="bicubic")
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
