"""Camera head "rot6d": poses relative to a canonical view, rotations as six numbers."""

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
    """Poses relative to a canonical view, rotations as six numbers; one focal length per scene.

    The canonical view has the identity pose. A small network reads the tokens of the canonical view and of another
    view, and predicts how the pose of this view differs from the identity. A second network predicts the focal length
    from the canonical view.

    Args:
        width: token width d.
        canonical: position of the canonical view, "first" or "middle" of the list of views.
        initial_focal: focal length at the start of training, in ``focal_unit``.
        min_focal: lower bound on the focal length; null sets no bound, as in RayZer.
        max_focal: upper bound on the focal length; null sets no bound.
        max_translation: upper bound on the distance of a camera from the canonical one; null sets no bound.
        focal_unit: unit of the focal length. "shorter_side" gives square pixels. "own_side", as in RayZer, is the
            width for fx and the height for fy; on square images both are equal.
        focal_bias: whether the last layer of the network for the focal length has a bias: true as in RayZer, false as
            in E-RayZer.
        initial_std: standard deviation of the initial weights: 0.001 as in RayZer, where all cameras start nearly
            equal; 0.02 as in E-RayZer, where they start up to 8 degrees apart.

    Source: RayZer, section 3 (its released configuration has the middle view and the focal offset 1.25);
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
        focal_bias: bool = True,
        initial_std: float = 1e-3,
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
            focal_bias=focal_bias,
            initial_std=initial_std,
        )

    def rotation(self, values: Float[Tensor, "b v 6"]) -> Float[Tensor, "b v 3 3"]:
        return rotation_from_6d(values)
