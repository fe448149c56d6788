"""Base class of the camera heads "rot6d" and "quaternion": poses relative to a canonical view."""

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
    """Poses relative to a canonical view, one focal length per scene.

    The canonical view has the identity pose. A small network reads the tokens of the canonical view and of another
    view, and predicts how the pose of this view differs from the identity. A second network predicts the focal length
    from the canonical view.

    Args:
        width: token width d.
        identity: parameters of the identity rotation, r numbers.
        canonical: position of the canonical view, "first" or "middle" of the list of views.
        initial_focal: focal length at the start of training, in ``focal_unit``.
        min_focal: lower bound on the focal length; None sets no bound.
        max_focal: upper bound on the focal length; None sets no bound.
        max_translation: upper bound on the distance of a camera from the canonical one; None sets no bound.
        focal_unit: unit of the focal length: the shorter image side, or the width for fx and the height for fy.
        focal_bias: whether the last layer of the network for the focal length has a bias.
        initial_std: standard deviation of the initial weights of both networks.
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
        focal_bias: bool,
        initial_std: float,
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
        self.focal = float32_mlp(width, width, 1, last_bias=focal_bias)
        init_linears(self, std=initial_std)

    @abstractmethod
    def rotation(self, values: Float[Tensor, "b v r"]) -> Float[Tensor, "b v 3 3"]:
        """Rotations from their parameters."""

    def forward(self, tokens: Float[Tensor, "b v n d"], image_size: tuple[int, int]) -> Cameras:
        features = reduce(tokens.float(), "b v n d -> b v d", "mean")
        num_views = features.shape[1]
        chosen = num_views // 2 if self.canonical == "middle" else 0
        canonical = features[:, chosen]
        offsets = self.relative(torch.cat([repeat(canonical, "b d -> b v d", v=num_views), features], dim=-1))
        others = torch.arange(num_views, device=tokens.device)[:, None] != chosen  # the canonical view is the identity
        values = offsets * others + self.start
        c2w = pose_from(self.rotation(values[..., :-3]), self.bounds.translation(values[..., -3:]))
        focal = self.bounds.focal(self.initial_focal + self.focal(canonical))
        return Cameras(c2w, self.intrinsics(repeat(focal, "b 1 -> b v", v=num_views), image_size))
