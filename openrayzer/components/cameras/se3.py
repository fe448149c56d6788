"""Camera head: exponential map of a twist, exponential focal length."""

from typing import Literal

from einops import reduce, repeat
from jaxtyping import Float
from torch import Tensor, nn

from openrayzer.components.cameras.bounds import CameraBounds
from openrayzer.geometry.intrinsics import square_pixel_intrinsics
from openrayzer.geometry.rotations import pose_from, se3_exp
from openrayzer.interfaces import CAMERA_HEADS, CameraHead
from openrayzer.layers.float32 import Float32Linear
from openrayzer.layers.init import init_linears
from openrayzer.layers.rms_norm import RMSNorm
from openrayzer.types import Cameras


@CAMERA_HEADS.register("se3")
class Se3Head(CameraHead):
    """Each view's pose as the exponential of six numbers, its focal length as that of one; a norm and a map for each.

    No view is special, so the cameras follow their views whatever the order.

    Args:
        width: token width d.
        initial_focal: focal length at the start of training, in ``focal_unit``.
        focal_per: whether every view has a focal length of its own or all views of a scene share one.
        max_log_focal: the focal length stays within initial_focal * exp(+-max_log_focal); None does not bound it.
        focal_unit: what the focal length is measured in: the shorter image side, or half the way from the centre of
            its first pixel to that of its last.
        focal_offset: added to the focal length, in ``focal_unit``.
        min_focal: the focal length stays above this, in ``focal_unit``; null sets no bound.
        max_focal: the focal length stays below this, in ``focal_unit``; null sets no bound.
        max_translation: no camera is farther from the origin; null sets no bound.

    Source: RayDer, camera head (there initial_focal 1 in half_span, no bound, offset 1e-6).
    """

    def __init__(
        self,
        *,
        width: int,
        initial_focal: float = 1.0,
        focal_per: Literal["view", "scene"] = "view",
        max_log_focal: float | None = 3.0,
        focal_unit: Literal["shorter_side", "half_span"] = "shorter_side",
        focal_offset: float = 0.0,
        min_focal: float | None = None,
        max_focal: float | None = None,
        max_translation: float | None = None,
    ) -> None:
        super().__init__()
        self.width = width
        if not initial_focal > 0 or (max_log_focal is not None and not max_log_focal > 0) or not focal_offset >= 0:
            raise ValueError(
                f"initial_focal and max_log_focal must be above 0 and focal_offset not below, got {initial_focal}, "
                f"{max_log_focal}, {focal_offset}"
            )
        self.bounds = CameraBounds(
            initial_focal=initial_focal + focal_offset,
            min_focal=min_focal,
            max_focal=max_focal,
            max_translation=max_translation,
        )
        self.initial_focal, self.focal_per, self.max_log_focal = initial_focal, focal_per, max_log_focal
        self.focal_unit, self.focal_offset = focal_unit, focal_offset
        self.pose_norm, self.focal_norm = RMSNorm(width), RMSNorm(width)
        self.twist = Float32Linear(width, 6)
        self.log_focal = Float32Linear(width, 1)
        init_linears(self.twist, std=1e-3)
        nn.init.zeros_(self.log_focal.weight)
        nn.init.zeros_(self.log_focal.bias)

    def forward(self, tokens: Float[Tensor, "b v n d"], image_size: tuple[int, int]) -> Cameras:
        features = reduce(tokens.float(), "b v n d -> b v d", "mean")
        log_focal = self.log_focal(self.focal_norm(features))
        if self.focal_per == "scene":
            log_focal = repeat(reduce(log_focal, "b v 1 -> b 1 1", "mean"), "b 1 1 -> b v 1", v=tokens.shape[1])
        if self.max_log_focal is not None:
            log_focal = self.max_log_focal * (log_focal / self.max_log_focal).tanh()  # the identity near 0
        focal = self.bounds.focal(self.initial_focal * log_focal[..., 0].exp() + self.focal_offset)
        if self.focal_unit == "half_span":
            focal = focal * ((min(image_size) - 1) / (2 * min(image_size)))
        motion = se3_exp(self.twist(self.pose_norm(features)))
        c2w = pose_from(motion[..., :3, :3], self.bounds.translation(motion[..., :3, 3]))
        return Cameras(c2w, square_pixel_intrinsics(focal, image_size))
