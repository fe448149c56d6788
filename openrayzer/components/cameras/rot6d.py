"""Camera head: rotation in six numbers and translation, relative to a canonical view."""

from typing import Literal

from jaxtyping import Float
from torch import Tensor

from openrayzer.components.cameras.relative import RelativeHead
from openrayzer.geometry.rotations import rotation_from_6d
from openrayzer.interfaces import CAMERA_HEADS

IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
"""First two columns of the identity rotation."""


@CAMERA_HEADS.register("rot6d")
class Rot6dHead(RelativeHead):
    """Poses relative to a canonical view, rotations in six numbers; one focal length per scene.

    The canonical view is the identity; every other starts there and is moved by a small network's output.
    The focal length is read from the canonical view.

    Args:
        width: token width d.
        canonical: which view of the list is the canonical one.
        initial_focal: focal length at the start of training.
        min_focal: the focal length stays above this; null sets no bound, as in RayZer.
        max_focal: the focal length stays below this; null sets no bound.
        max_translation: no camera is farther from the canonical one; null sets no bound.
        focal_unit: what the focal length is measured in: the shorter image side, so that pixels are square, or in x
            the width and in y the height, as in RayZer (on square images the same).

    Source: RayZer, section 3 (its released configuration takes the middle view; 1.25 is its focal offset);
    Zhou et al. 2019 for the six numbers.
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

    def rotation(self, values: Float[Tensor, "b v 6"]) -> Float[Tensor, "b v 3 3"]:
        return rotation_from_6d(values)
