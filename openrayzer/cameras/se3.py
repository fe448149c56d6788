"""Camera head: exponential map of a twist, exponential focal length."""

from typing import Literal

from einops import reduce, repeat
from jaxtyping import Float
from torch import Tensor, nn

from openrayzer.geometry.intrinsics import square_pixel_intrinsics
from openrayzer.geometry.precision import no_autocast
from openrayzer.geometry.rotations import se3_exp
from openrayzer.interfaces import CAMERA_HEADS, CameraHead
from openrayzer.layers.float32 import Float32Linear
from openrayzer.layers.init import init_linears
from openrayzer.types import Cameras


@CAMERA_HEADS.register("se3")
class Se3Head(CameraHead):
    """Each view's pose as the exponential of six numbers, its focal length as that of one; a norm and linear maps.

    No view is special, so the cameras follow their views whatever the order.

    Args:
        width: token width d.
        initial_focal: focal length at the start of training, in units of the shorter image side.
        focal_per: whether every view has a focal length of its own or all views of a scene share one.
        max_log_focal: the focal length stays within initial_focal * exp(+-max_log_focal).

    Source: RayDer, camera head (there without the bound, and 0.5 as the initial focal length).
    """

    def __init__(
        self,
        *,
        width: int,
        initial_focal: float = 1.0,
        focal_per: Literal["view", "scene"] = "view",
        max_log_focal: float = 3.0,
    ) -> None:
        super().__init__()
        self.width = width
        if not initial_focal > 0 or not max_log_focal > 0:
            raise ValueError(f"initial_focal and max_log_focal must be above 0, got {initial_focal}, {max_log_focal}")
        self.initial_focal, self.focal_per, self.max_log_focal = initial_focal, focal_per, max_log_focal
        self.norm = nn.RMSNorm(width, eps=1e-6)
        self.twist = Float32Linear(width, 6)
        self.log_focal = Float32Linear(width, 1)
        init_linears(self.twist, std=1e-3)
        nn.init.zeros_(self.log_focal.weight)
        nn.init.zeros_(self.log_focal.bias)

    def forward(self, tokens: Float[Tensor, "b v n d"], image_size: tuple[int, int]) -> Cameras:
        with no_autocast(tokens):
            features = self.norm(reduce(tokens.float(), "b v n d -> b v d", "mean"))
        log_focal = self.log_focal(features)
        if self.focal_per == "scene":
            log_focal = repeat(reduce(log_focal, "b v 1 -> b 1 1", "mean"), "b 1 1 -> b v 1", v=tokens.shape[1])
        bounded = self.max_log_focal * (log_focal / self.max_log_focal).tanh()  # the identity near 0
        focal = self.initial_focal * bounded[..., 0].exp()
        return Cameras(se3_exp(self.twist(features)), square_pixel_intrinsics(focal, image_size))
