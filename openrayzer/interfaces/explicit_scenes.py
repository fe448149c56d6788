"""Scenes of 3D Gaussians, and the interface of renderers that make and draw them."""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from openrayzer.interfaces.gaussians import Gaussians, RasterisedViews
from openrayzer.interfaces.parts import ContextRenderer, GeometricRenderer, RenderedViews
from openrayzer.types import Cameras, Scene

CONSTANT_HARMONIC = 0.28209479177387814
"""The spherical harmonic of degree 0, 1 / (2 sqrt(pi)); a colour is 0.5 plus its product with the first coefficient."""


@dataclass(frozen=True)
class GaussianScene(Scene):
    """Scenes of 3D Gaussians, which other programs can show: ``openrayzer export-scene`` writes them.

    Attributes:
        gaussians: the Gaussians, in the world frame of the cameras of the context views.
    """

    gaussians: Gaussians


class GaussianRenderer(ContextRenderer):
    """Turns the tokens of context views into Gaussians, and draws these. Views do not influence each other.

    Attributes:
        patch_size: side p of a patch in pixels.
        pixels_per_gaussian: side in pixels of the square cell of a context view that each Gaussian stands for.
    """

    patch_size: int
    pixels_per_gaussian: int

    def __init__(self) -> None:
        super().__init__()

    @abstractmethod
    def gaussians(
        self, tokens: Float[Tensor, "b v n d"], images: Float[Tensor, "b v 3 h w"], cameras: Cameras
    ) -> Gaussians:
        """The Gaussians of the context views, in float32, in the world frame of ``cameras``.

        Args:
            tokens: one token per patch, row by row.
            images: the context views, in [0, 1].
            cameras: their cameras.
        """

    @abstractmethod
    def forward(self, gaussians: Gaussians, cameras: Cameras, image_size: tuple[int, int]) -> RasterisedViews:
        """Views of the Gaussians."""

    def losses(self, gaussians: Gaussians) -> Mapping[str, Float[Tensor, ""]]:
        """Losses on the Gaussians by name, which training adds with weight 1; none by default."""
        return {}


class SurfaceRenderer(GeometricRenderer):
    """Turns context views with cameras and rough depths into Gaussians, and draws these."""

    @abstractmethod
    def gaussians(
        self,
        images: Float[Tensor, "b v 3 h w"],
        cameras: Cameras,
        inverse_depth: Float[Tensor, "b v rows cols"],
        agreement: Float[Tensor, "b v rows cols"],
    ) -> Gaussians:
        """The Gaussians of the context views, in float32, in the world frame of ``cameras``.

        Args:
            images: the context views, in [0, 1].
            cameras: their cameras.
            inverse_depth: rough inverse z-depths on a regular grid of points of each view.
            agreement: how well each of them explains the other views, 0 to 1.
        """

    @abstractmethod
    def forward(self, gaussians: Gaussians, cameras: Cameras, image_size: tuple[int, int]) -> RenderedViews:
        """Views of the Gaussians. Their maps include "depth" and "opacity"; the depth is above 0 everywhere."""
