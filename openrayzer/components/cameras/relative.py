"""What camera heads share whose poses are relative to a canonical view: rot6d, quaternion."""

from abc import abstractmethod
from typing import Literal

import torch
from einops import reduce, repeat
from jaxtyping import Float
from torch import Tensor

from openrayzer.components.cameras.bounds import CameraBounds
from openrayzer.geometry.intrinsics import equal_share_intrinsics, square_pixel_intrinsics
from openrayzer.geometry.rotations import pose_from
from openrayzer.interfaces import CameraHead
from openrayzer.layers.float32 import float32_mlp
from openrayzer.layers.init import init_linears
from openrayzer.types import Cameras


class RelativeHead(CameraHead):
    """Poses relative to a canonical view, each read from its tokens and that view's; one focal length per scene.

    The canonical view is the identity; every other starts there and is moved by a small network's output.
    The focal length is read from the canonical view.

    Args:
        width: token width d.
        identity: numbers of the identity rotation.
        canonical: which view of the list is the canonical one.
        initial_focal: focal length at the start of training.
        min_focal: the focal length stays above this; None sets no bound.
        max_focal: the focal length stays below this; None sets no bound.
        max_translation: no camera is farther from the canonical one; None sets no bound.
        focal_unit: what the focal length is measured in.
    """

    compares_views = True
    start: Float[Tensor, " r"]

    def __init__(
        self,
        *,
        width: int,
        identity: tuple[float, ...],
        canonical: Literal["first", "middle"],
        initial_focal: float,
        min_focal: float | None,
        max_focal: float | None,
        max_translation: float | None,
        focal_unit: Literal["shorter_side", "own_side"],
    ) -> None:
        super().__init__()
        self.bounds = CameraBounds(
            initial_focal=initial_focal, min_focal=min_focal, max_focal=max_focal, max_translation=max_translation
        )
        self.width = width
        self.register_buffer("start", torch.tensor([*identity, 0.0, 0.0, 0.0]), persistent=False)
        self.canonical, self.initial_focal = canonical, initial_focal
        self.intrinsics = square_pixel_intrinsics if focal_unit == "shorter_side" else equal_share_intrinsics
        self.relative = float32_mlp(2 * width, width, len(identity) + 3)
        self.focal = float32_mlp(width, width, 1)
        init_linears(self, std=1e-3)

    @abstractmethod
    def rotation(self, values: Float[Tensor, "b v r"]) -> Float[Tensor, "b v 3 3"]:
        """Rotations from ``start`` plus what the network adds."""

    def forward(self, tokens: Float[Tensor, "b v n d"], image_size: tuple[int, int]) -> Cameras:
        features = reduce(tokens.float(), "b v n d -> b v d", "mean")
        num_views = features.shape[1]
        chosen = num_views // 2 if self.canonical == "middle" else 0
        canonical = features[:, chosen]
        offsets = self.relative(torch.cat([repeat(canonical, "b d -> b v d", v=num_views), features], dim=-1))
        moves = torch.arange(num_views, device=tokens.device)[:, None] != chosen  # the canonical view stays
        values = offsets * moves + self.start
        c2w = pose_from(self.rotation(values[..., :-3]), self.bounds.translation(values[..., -3:]))
        focal = self.bounds.focal(self.initial_focal + self.focal(canonical))
        return Cameras(c2w, self.intrinsics(repeat(focal, "b 1 -> b v", v=num_views), image_size))
