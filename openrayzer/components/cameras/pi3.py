"""Camera head "pi3": absolute poses, rotations by SVD of nine numbers, one field of view per scene."""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from einops import reduce, repeat
from jaxtyping import Float
from torch import Tensor, nn

from openrayzer.components.cameras.bounds import CameraBounds
from openrayzer.geometry.intrinsics import fov_to_focal, height_intrinsics, square_pixel_intrinsics
from openrayzer.geometry.rotations import pose_from, rotation_from_9d
from openrayzer.interfaces import CAMERA_HEADS, CameraHead, InputError
from openrayzer.layers.float32 import Float32Linear
from openrayzer.layers.init import init_linears
from openrayzer.types import Cameras

SMALLEST_FOV = 1e-6
"""Smallest field of view in radians; it keeps the focal length finite where softplus underflows."""

_BIAS = {
    "bounded": lambda fov: math.log(fov / (math.pi - fov)),
    "softplus": lambda fov: math.log(math.expm1(fov)),
}
"""Output of the last layer for a given field of view."""


@CAMERA_HEADS.register("pi3")
class Pi3Head(CameraHead):
    """The pose of each view from its own tokens, with the rotation by SVD of nine numbers; one field of view per scene.

    The head treats all views in the same way, so it is equivariant to their order.

    Args:
        width: token width d.
        initial_fov: field of view in radians at the start of training.
        field_of_view: "bounded" predicts values strictly between 0 and pi. "softplus", as in Open-RayZer, has no upper
            bound; values above pi give no valid camera. "fixed" is always ``initial_fov``, for models that take the
            true intrinsics.
        fov_spans: image side for the field of view. "height", as in Open-RayZer, also puts the principal point
            half the height from the left; on square images both are equal.
        min_focal: lower bound on the focal length, in units of the side ``fov_spans``; null sets no bound.
        max_focal: upper bound on the focal length, in the same unit; null sets no bound.
        max_translation: upper bound on the distance of a camera from the origin; null sets no bound.

    Source: Wang et al. 2025, "Pi3", camera head; Open-RayZer for the field of view.
    """

    def __init__(
        self,
        *,
        width: int,
        initial_fov: float = 0.7,
        field_of_view: Literal["bounded", "softplus", "fixed"] = "bounded",
        fov_spans: Literal["shorter_side", "height"] = "shorter_side",
        min_focal: float | None = None,
        max_focal: float | None = None,
        max_translation: float | None = None,
    ) -> None:
        super().__init__()
        if not 0 < initial_fov < math.pi:
            raise InputError(f"initial_fov must lie in (0, pi) radians, got {initial_fov}")
        if field_of_view == "fixed" and (min_focal, max_focal) != (None, None):
            raise InputError("min_focal and max_focal have no effect with a fixed field_of_view; leave them out")
        self.bounds = CameraBounds(
            initial_focal=0.5 / math.tan(initial_fov / 2),
            min_focal=min_focal,
            max_focal=max_focal,
            max_translation=max_translation,
        )
        self.width, self.initial_fov, self.field_of_view = width, initial_fov, field_of_view
        self.predicts_intrinsics = field_of_view != "fixed"
        self.intrinsics = square_pixel_intrinsics if fov_spans == "shorter_side" else height_intrinsics
        self.token_blocks = nn.Sequential(ResidualBlock(width), ResidualBlock(width))
        self.view_layers = _relu_layers(width, 2)
        self.translation = Float32Linear(width, 3)
        self.rotation = Float32Linear(width, 9)
        for last in (self.translation, self.rotation):
            init_linears(last, std=1e-3)
        with torch.no_grad():
            self.rotation.bias.copy_(torch.eye(3).flatten())  # all cameras start as the identity
        if self.predicts_intrinsics:
            self.fov_layers = _relu_layers(width, 2)
            self.fov = Float32Linear(width, 1)
            init_linears(self.fov, std=1e-3)
            nn.init.constant_(self.fov.bias, _BIAS[field_of_view](initial_fov))

    def forward(self, tokens: Float[Tensor, "b v n d"], image_size: tuple[int, int]) -> Cameras:
        pooled = reduce(self.token_blocks(tokens.float()), "b v n d -> b v d", "mean")
        features = self.view_layers(pooled)
        translation = self.bounds.translation(self.translation(features))
        c2w = pose_from(rotation_from_9d(self.rotation(features)), translation)
        focal = repeat(self.bounds.focal(fov_to_focal(self._fov(pooled))), "b 1 -> b v", v=tokens.shape[1])
        return Cameras(c2w, self.intrinsics(focal, image_size))

    def _fov(self, pooled: Float[Tensor, "b v d"]) -> Float[Tensor, "b 1"]:
        """Field of view in radians, one per scene."""
        if self.field_of_view == "fixed":
            return pooled.new_full((pooled.shape[0], 1), self.initial_fov)
        value = self.fov(self.fov_layers(reduce(pooled, "b v d -> b d", "mean")))
        if self.field_of_view == "softplus":
            return F.softplus(value).clamp(min=SMALLEST_FOV)
        # the range (1e-3, 1 - 1e-3) keeps float32 rounding away from a field of view of 0 or pi
        return (value.sigmoid() * (1 - 2e-3) + 1e-3) * math.pi


class ResidualBlock(nn.Module):
    """x + f(x) for each token; f is three linear layers, each followed by ReLU."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = _relu_layers(width, 3)

    def forward(self, tokens: Float[Tensor, "b v n d"]) -> Float[Tensor, "b v n d"]:
        return tokens + self.layers(tokens)


def _relu_layers(width: int, count: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for _ in range(count):
        layers += [Float32Linear(width, width), nn.ReLU()]
    return nn.Sequential(*layers)
