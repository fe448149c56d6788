"""Scenes of explicit 3D Gaussians, and the interface of rasterisers, which draw them."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from math import isqrt

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from openrayzer.interfaces.errors import InputError
from openrayzer.types import Cameras

MAX_DEGREE = 3
"""Largest degree of spherical harmonics; a degree of l has (l + 1)^2 coefficients per colour channel."""
TRANSPARENT = 1 / 255
"""Gaussians of less opacity stop too little light to change a pixel."""


@dataclass(frozen=True)
class Gaussians:
    """Batches of 3D Gaussians: k Gaussians for each of b scenes, in world coordinates.

    Attributes:
        means: centres.
        scales: standard deviations along the three axes of each Gaussian, in units of the scene, 0 or more.
        rotations: quaternions (w, x, y, z) that turn these axes into world axes; of any length, zeros are the identity.
        opacities: share of light, in [0, 1], that a Gaussian stops at its centre.
        harmonics: s coefficients of real spherical harmonics of degree 0 to 3 for red, green and blue, in the order and
            with the signs of 3D Gaussian Splatting (Kerbl et al. 2023). The colour is their sum plus 0.5, at least 0.
    """

    means: Float[Tensor, "b k 3"]
    scales: Float[Tensor, "b k 3"]
    rotations: Float[Tensor, "b k 4"]
    opacities: Float[Tensor, "b k"]
    harmonics: Float[Tensor, "b k s 3"]

    @property
    def num_gaussians(self) -> int:
        """Number of Gaussians k of each scene."""
        return self.means.shape[1]

    @property
    def degree(self) -> int:
        """Degree of the spherical harmonics, 0 to 3.

        Raises:
            InputError: no such degree has this number of coefficients.
        """
        coefficients = self.harmonics.shape[2]
        degree = isqrt(coefficients) - 1
        if (degree + 1) ** 2 != coefficients or not 0 <= degree <= MAX_DEGREE:
            raise InputError(f"harmonics must have 1, 4, 9 or 16 coefficients per channel, got {coefficients}")
        return degree

    def require_finite(self) -> None:
        """Check all values, for Gaussians from a file or another program. The check waits for the device.

        Raises:
            InputError: a value is NaN or infinite; the message names the scene, the Gaussian and the property.
        """
        for entry in fields(self):
            values: Tensor = getattr(self, entry.name)
            broken = (~values.isfinite().reshape(*values.shape[:2], -1).all(-1)).nonzero()
            if len(broken):
                scene, gaussian = broken[0].tolist()
                raise InputError(
                    f"the {entry.name} of {len(broken)} Gaussians are not finite, first of Gaussian {gaussian} of "
                    f"scene {scene}; remove these Gaussians"
                )


@dataclass(frozen=True)
class RasterisedViews:
    """Views of Gaussians.

    Attributes:
        images: colours over the background; 0 or more, and above 1 where the harmonics are.
        depth: mean distance of the Gaussians of a pixel along the optical axis, weighted by their shares of the colour,
            in units of the scene; 0 where no Gaussian is.
        opacity: share of the colour, in [0, 1], that comes from the Gaussians and not from the background.
    """

    images: Float[Tensor, "b v 3 h w"]
    depth: Float[Tensor, "b v 1 h w"]
    opacity: Float[Tensor, "b v 1 h w"]


class Rasteriser(ABC):
    """Draws 3D Gaussians: projects them to ellipses and blends these front to back.

    All rasterisers compute the same images, up to rounding. Gradients reach all tensors of the Gaussians, the poses,
    the intrinsics and the background.
    """

    def __init__(self) -> None: ...

    @abstractmethod
    def refusal(self, device: torch.device) -> str:
        """The reason why this rasteriser cannot draw on a device; empty if it can."""

    @abstractmethod
    def rasterise(
        self,
        gaussians: Gaussians,
        cameras: Cameras,
        image_size: tuple[int, int],
        *,
        background: Float[Tensor, "b v 3"],
    ) -> RasterisedViews:
        """Views of each scene, in float32 (float64 for float64 Gaussians), also under autocast.

        Views, and scenes of a batch, do not influence each other. A scene with a value that is not finite gives views
        of NaN, which training counts as a bad step.

        Args:
            gaussians: the scenes. They may differ in everything but the number of Gaussians; a Gaussian with opacity 0
                has no effect.
            cameras: v cameras for each scene.
            image_size: height and width in pixels, any positive numbers.
            background: colour behind the Gaussians of each view.

        Raises:
            InputError: the rasteriser cannot run on the device of the Gaussians, or the harmonics have a wrong number
                of coefficients.
        """

    @abstractmethod
    def seen(self, gaussians: Gaussians, cameras: Cameras, image_size: tuple[int, int]) -> Bool[Tensor, "b k"]:
        """Whether a Gaussian may change a pixel of any view of its scene. All others have no effect on the views.

        All Gaussians of a scene with a value that is not finite count as seen. The call computes no gradients.

        Args:
            gaussians: the scenes.
            cameras: v cameras for each scene.
            image_size: height and width in pixels.
        """
