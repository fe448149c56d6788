"""Interfaces of parts that match views, and of parts that find the cameras which explain the matches."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from openrayzer.types import Cameras


@dataclass(frozen=True)
class Matches:
    """Places of points of each view in other views.

    Coordinates are isotropic, see ``layers.image_sampling``.

    Attributes:
        points: the points, the same grid in every view.
        grid: rows and columns of this grid; n = rows * columns.
        neighbours: positions of the k other views in which the points of each view were looked for.
        places: place of each point in each neighbour.
        weights: how far to trust each place, 0 for no match.
        likelihood: logarithm of the probability of every cell of a grid over the neighbour, which ``Matcher.loss``
            reads; None outside training.
    """

    points: Float[Tensor, "n 2"]
    grid: tuple[int, int]
    neighbours: Int[Tensor, "b v k"]
    places: Float[Tensor, "b v k n 2"]
    weights: Float[Tensor, "b v k n"]
    likelihood: Float[Tensor, "b v k some cells"] | None = None


@dataclass(frozen=True)
class SolvedCameras:
    """Cameras that explain matches, with the points on which they rest.

    Attributes:
        cameras: cameras of all views; the inverse depths of their points have a mean near 1.
        inverse_depth: inverse z-depth of each point of each view, in its own camera.
        prior_depth: inverse depth that a network expects from each image alone.
        projected: place of each point in each neighbour, by cameras and depths.
        support: share of the points of each view that some neighbour confirms, in [0, 1].
        residual: root mean square distance between confirmed matches and projected points, in isotropic coordinates.
        rotation_error: standard deviation of each rotation in radians, if the residuals were independent.
        supported: whether enough points confirm the camera. The camera of another view is a guess.
    """

    cameras: Cameras
    inverse_depth: Float[Tensor, "b v n"]
    prior_depth: Float[Tensor, "b v n"]
    projected: Float[Tensor, "b v k n 2"]
    support: Float[Tensor, "b v"]
    residual: Float[Tensor, "b v"]
    rotation_error: Float[Tensor, "b v"]
    supported: Bool[Tensor, "b v"]
    trust: Float[Tensor, "b v k n"]
    point_support: Float[Tensor, "b v n"]
    log_focal: Float[Tensor, " b"]


class Matcher(nn.Module, ABC):
    """Looks for the points of each view in other views. The order of the views does not matter."""

    def __init__(self) -> None:
        super().__init__()

    @abstractmethod
    def forward(self, images: Float[Tensor, "b v 3 h w"]) -> Matches:
        """Matches between views, in float32.

        Args:
            images: two or more views of one scene per batch element, in [0, 1].
        """

    @abstractmethod
    def loss(self, matches: Matches, solved: SolvedCameras) -> Float[Tensor, ""]:
        """How badly the matcher predicts the places that the solved cameras imply; it teaches the matcher."""


class CameraSolver(nn.Module, ABC):
    """Finds cameras that explain matches and images. Batch elements do not influence each other."""

    def __init__(self) -> None:
        super().__init__()

    @abstractmethod
    def forward(
        self,
        images: Float[Tensor, "b v 3 h w"],
        matches: Matches,
        *,
        known: Cameras | None = None,
        held: Bool[Tensor, "b v"] | None = None,
    ) -> SolvedCameras:
        """Cameras of all views, in float32.

        Args:
            images: views in [0, 1].
            matches: matches between them.
            known: cameras with true or earlier intrinsics, which the solver keeps.
            held: views that also keep their pose of ``known``; none by default.
        """

    @abstractmethod
    def loss(self, solved: SolvedCameras) -> Float[Tensor, ""]:
        """How far the priors of the solver are from its results; it teaches the priors."""
