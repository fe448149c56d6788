"""Camera head "se3": absolute poses by the exponential map of SE(3), exponential focal lengths."""

from typing import Literal

from einops import reduce, repeat
from jaxtyping import Float
from torch import Tensor, nn

from openrayzer.components.cameras.bounds import CameraBounds
from openrayzer.geometry.intrinsics import square_pixel_intrinsics
from openrayzer.geometry.rotations import pose_from, se3_exp
from openrayzer.interfaces import CAMERA_HEADS, CameraHead, InputError
from openrayzer.layers.float32 import Float32Linear
from openrayzer.layers.init import init_linears
from openrayzer.layers.rms_norm import RMSNorm
from openrayzer.types import Cameras


@CAMERA_HEADS.register("se3")
class Se3Head(CameraHead):
    """The pose of each view as the exponential of a twist, from its own tokens; focal lengths as exponentials.

    Twist and log focal length each have an RMSNorm and a linear layer. The head treats all views in the same way, so it
    is equivariant to their order.

    Args:
        width: token width d.
        initial_focal: focal length at the start of training, in ``focal_unit``.
        focal_per: "view" predicts a focal length for each view, "scene" one for all views of a scene.
        max_log_focal: the focal length stays within initial_focal * exp(+-max_log_focal); null sets no bound.
        focal_unit: unit of the focal length: "shorter_side" is the shorter image side, "half_span" is half the
            distance between the centres of the first and the last pixel of this side.
        focal_offset: added to the focal length, in ``focal_unit``.
        min_focal: lower bound on the focal length, in ``focal_unit``; null sets no bound.
        max_focal: upper bound on the focal length, in ``focal_unit``; null sets no bound.
        max_translation: upper bound on the distance of a camera from the origin; null sets no bound.

    Source: RayDer, camera head (initial_focal 1 in half_span, no bounds, offset 1e-6).
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
            raise InputError(
                f"initial_focal and max_log_focal must be above 0, and focal_offset must be 0 or more, got "
                f"{initial_focal}, {max_log_focal} and {focal_offset}"
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
