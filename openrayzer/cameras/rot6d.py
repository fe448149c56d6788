"""Camera head: rotation in six numbers and translation, relative to a canonical view."""

from typing import Literal

import torch
from einops import reduce, repeat
from jaxtyping import Float
from torch import Tensor

from openrayzer.geometry.intrinsics import square_pixel_intrinsics
from openrayzer.geometry.rotations import pose_from, rotation_from_6d
from openrayzer.interfaces import CAMERA_HEADS, CameraHead
from openrayzer.layers.float32 import float32_mlp
from openrayzer.layers.init import init_linears
from openrayzer.types import Cameras

IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0)
"""First two columns of the identity rotation, then no translation."""


@CAMERA_HEADS.register("rot6d")
class Rot6dHead(CameraHead):
    """Poses relative to a canonical view, each read from its tokens and that view's; one focal length per scene.

    The canonical view is the identity; every other starts there and is moved by a small network's output.
    The focal length is read from the canonical view, in units of the shorter image side.

    Args:
        width: token width d.
        canonical: which view of the list is the canonical one.
        initial_focal: focal length at the start of training, in units of the shorter image side.
        min_focal: the focal length never falls below this.

    Source: RayZer, section 3 (its released configuration takes the middle view; 1.25 is its focal offset);
    Zhou et al. 2019 for the six numbers.
    """

    compares_views = True

    def __init__(
        self,
        *,
        width: int,
        canonical: Literal["first", "middle"] = "middle",
        initial_focal: float = 1.25,
        min_focal: float = 0.1,
    ) -> None:
        super().__init__()
        self.width = width
        if not 0 < min_focal <= initial_focal:
            raise ValueError(f"min_focal {min_focal} must be above 0 and at most initial_focal {initial_focal}")
        self.canonical, self.initial_focal, self.min_focal = canonical, initial_focal, min_focal
        self.relative = float32_mlp(2 * width, width, 9)
        self.focal = float32_mlp(width, width, 1)
        init_linears(self, std=1e-3)

    def forward(self, tokens: Float[Tensor, "b v n d"], image_size: tuple[int, int]) -> Cameras:
        features = reduce(tokens.float(), "b v n d -> b v d", "mean")
        num_views = features.shape[1]
        chosen = num_views // 2 if self.canonical == "middle" else 0
        canonical = features[:, chosen]
        offsets = self.relative(torch.cat([repeat(canonical, "b d -> b v d", v=num_views), features], dim=-1))
        moves = torch.arange(num_views, device=tokens.device)[:, None] != chosen  # the canonical view stays
        values = offsets * moves + offsets.new_tensor(IDENTITY)
        c2w = pose_from(rotation_from_6d(values[..., :6]), values[..., 6:])
        focal = (self.initial_focal + self.focal(canonical)).clamp(min=self.min_focal)
        return Cameras(c2w, square_pixel_intrinsics(repeat(focal, "b 1 -> b v", v=num_views), image_size))
