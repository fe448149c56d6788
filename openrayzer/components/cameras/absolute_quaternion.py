"""Camera head "absolute_quaternion": the pose of each view from its own tokens, its rotation as a quaternion."""

import torch
from einops import reduce
from jaxtyping import Float
from torch import Tensor, nn

from openrayzer.geometry.intrinsics import square_pixel_intrinsics
from openrayzer.geometry.rotations import pose_from, rotation_from_quaternion
from openrayzer.interfaces import CAMERA_HEADS, CameraHead
from openrayzer.layers.float32 import Float32Linear
from openrayzer.layers.init import init_linears, init_std
from openrayzer.types import Cameras

IDENTITY = (0.0, 0.0, 0.0, 1.0)
"""(x, y, z, w) of the identity rotation."""


@CAMERA_HEADS.register("absolute_quaternion")
class AbsoluteQuaternionHead(CameraHead):
    """Two networks of two layers compute a camera centre and a quaternion (x, y, z, w) from the mean of the tokens.

    The quaternion may have any length, and the centre is unbounded. The head predicts no intrinsics: their guess is a
    focal length of one image side, so give the true ones.

    Args:
        width: token width d; the hidden layers have half of it.

    Source: the pose heads of UP-LVSM (Wang et al. 2025), representation "absT_quaR". There, all layers start from
    N(0, 0.02); here, the bias of the quaternion starts as the identity, so that all cameras start nearly equal.
    """

    predicts_intrinsics = False

    def __init__(self, *, width: int) -> None:
        super().__init__()
        self.width = width
        self.centre, self.quaternion = _network(width, start=(0.0, 0.0, 0.0)), _network(width, start=IDENTITY)

    def forward(self, tokens: Float[Tensor, "b v n d"], image_size: tuple[int, int]) -> Cameras:
        features = reduce(tokens.float(), "b v n d -> b v d", "mean")
        rotations = rotation_from_quaternion(self.quaternion(features).roll(1, dims=-1))  # w moves to the front
        focal = features.new_ones(features.shape[:2])
        return Cameras(pose_from(rotations, self.centre(features)), square_pixel_intrinsics(focal, image_size))


def _network(width: int, *, start: tuple[float, ...]) -> nn.Sequential:
    """Two layers with outputs near ``start`` at the beginning of the training."""
    hidden, last = Float32Linear(width, width // 2), Float32Linear(width // 2, len(start))
    init_linears(hidden, std=init_std(width))
    init_linears(last, std=1e-3)
    with torch.no_grad():
        last.bias.copy_(torch.tensor(start))
    return nn.Sequential(hidden, nn.GELU(), last)
