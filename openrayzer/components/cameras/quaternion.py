"""Camera head: rotation as a quaternion and translation, relative to a canonical view."""

from typing import Literal

from jaxtyping import Float
from torch import Tensor

from openrayzer.components.cameras.relative import RelativeHead
from openrayzer.geometry.rotations import rotation_from_quaternion
from openrayzer.interfaces import CAMERA_HEADS

IDENTITY = (1.0, 0.0, 0.0, 0.0)
"""(w, x, y, z) of no rotation."""


@CAMERA_HEADS.register("quaternion")
class QuaternionHead(RelativeHead):
    """Poses relative to a canonical view, rotations as quaternions; one focal length per scene.

    Args:
        width: token width d.
        canonical: which view of the list is the canonical one.
        initial_focal: focal length at the start of training.
        min_focal: the focal length stays above this; null sets no bound, as in RayZer.
        max_focal: the focal length stays below this; null sets no bound.
        max_translation: no camera is farther from the canonical one; null sets no bound.
        focal_unit: what the focal length is measured in: the shorter image side, so that pixels are square, or in x
            the width and in y the height, as in RayZer (on square images the same).

    Source: RayZer, the released code with representation "quat".
    """

    def __init__(
        self,
        *,
        width: int,
        canonical: Literal["first", "middle"] = "middle",
        initial_focal: float = 1.25,
        min_focal: float | None = 0.1,
        max_focal: float | None = None,
        max_translation: float | None = None,
        focal_unit: Literal["shorter_side", "own_side"] = "shorter_side",
    ) -> None:
        super().__init__(
            width=width,
            identity=IDENTITY,
            canonical=canonical,
            initial_focal=initial_focal,
            min_focal=min_focal,
            max_focal=max_focal,
            max_translation=max_translation,
            focal_unit=focal_unit,
        )

    def rotation(self, values: Float[Tensor, "b v 4"]) -> Float[Tensor, "b v 3 3"]:
        return rotation_from_quaternion(values)
