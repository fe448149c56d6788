"""Interfaces of parts that match views, and of parts that find the cameras which explain the matches."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from openrayzer.interfaces.errors import InputError
from openrayzer.types import Cameras, map_tensors, select_views


@dataclass(frozen=True)
class Matches:
    """Places of points of each view in other views, without gradients.

    Coordinates are isotropic, see ``layers.image_sampling``.

    Attributes:
        points: the points, the same grid in every view, row by row.
        grid: rows and columns of this grid; n = rows * columns.
        neighbours: positions of the k other views in which the points of a view were looked for. A copy has the
            neighbours of its original.
        places: place of each point in each neighbour.
        weights: trust in each place, 0 (no match) to 1.
        likelihood: for ``Matcher.loss``, the logarithm of the probability of each cell of a neighbour, for some of the
            points; with gradients. None outside training.
        originals: position of the first view with the same image, its own position for a view that is no copy. Copies
            share the camera and the depths of this view, see ``SolvedCameras.with_copies``. None if the matcher does
            not look for copies.
    """

    points: Float[Tensor, "n 2"]
    grid: tuple[int, int]
    neighbours: Int[Tensor, "b v k"]
    places: Float[Tensor, "b v k n 2"]
    weights: Float[Tensor, "b v k n"]
    likelihood: Float[Tensor, "b v k some cells"] | None = None
    originals: Int[Tensor, "b v"] | None = None

    @property
    def first(self) -> Bool[Tensor, "b v"]:
        """Whether a view is first among its copies."""
        b, v, _ = self.neighbours.shape
        every = torch.arange(v, device=self.neighbours.device).expand(b, v)
        return torch.ones_like(every, dtype=torch.bool) if self.originals is None else self.originals == every

    @property
    def counted(self) -> Bool[Tensor, "b v k"]:
        """Whether a view and its neighbour are both first among their copies."""
        there = select_views(self.first, self.neighbours.flatten(1)).view_as(self.neighbours)
        return self.first[:, :, None] & there


@dataclass(frozen=True)
class SolvedCameras:
    """Cameras that explain matches, the points on which they rest, and how sure they are.

    Attributes:
        cameras: cameras of all views, in float32.
        log_focal: logarithm of the focal length divided by sqrt(h * w) pixels, one per scene.
        inverse_depth: inverse z-depth of each point of each view in its own camera; the mean over a scene is near 1.
        expected_depth: inverse depths that the solver expected before it saw the other views, with gradients.
        projected: place of each point in each neighbour, by cameras and depths, in isotropic coordinates.
        agreement: agreement of each match with ``projected``, 0 to 1.
        support: share of the points of each view that agree with a match in some neighbour.
        residual: root mean square distance between matches and ``projected`` of each view, in isotropic coordinates,
            where they agree.
        rotation_error: standard deviation of the rotation of each view in radians, if the other cameras are exact.
        position_error: standard deviation of the position of each view, in units of the scene, if the other cameras
            are exact.
        supported: whether enough points support the camera of each view. Another view has the pose of the supported
            view that it resembles most, which is a guess.
    """

    cameras: Cameras
    log_focal: Float[Tensor, " b"]
    inverse_depth: Float[Tensor, "b v n"]
    expected_depth: Float[Tensor, "b v n"]
    projected: Float[Tensor, "b v k n 2"]
    agreement: Float[Tensor, "b v k n"]
    support: Float[Tensor, "b v"]
    residual: Float[Tensor, "b v"]
    rotation_error: Float[Tensor, "b v"]
    position_error: Float[Tensor, "b v"]
    supported: Bool[Tensor, "b v"]

    def with_copies(self, originals: Int[Tensor, "b v"] | None) -> "SolvedCameras":
        """The same result, in which each copy has the values of its original; see ``Matches.originals``."""
        if originals is None:
            return self

        def of_views(values: Tensor) -> Tensor:
            return select_views(values, originals) if values.ndim > 1 else values

        return map_tensors(self, of_views)

    @property
    def point_agreement(self) -> Float[Tensor, "b v n"]:
        """Agreement of each point with its best match; 0 for a single view."""
        return self.agreement.amax(2) if self.agreement.shape[2] else self.agreement.new_zeros(self.inverse_depth.shape)


class Matcher(nn.Module, ABC):
    """Looks for the points of each view in other views. The order of the views does not matter."""

    def __init__(self) -> None:
        super().__init__()

    @abstractmethod
    def forward(self, images: Float[Tensor, "b v 3 h w"]) -> Matches:
        """Matches between views.

        Args:
            images: one or more views of one scene per batch element, in [0, 1].
        """

    @abstractmethod
    def loss(self, matches: Matches, solved: SolvedCameras) -> Float[Tensor, ""]:
        """The loss that teaches the matcher the places which the solved cameras imply.

        Args:
            matches: the result of ``forward`` in training mode.
            solved: cameras that explain the matches.
        """


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
        """Cameras of all views.

        Args:
            images: views in [0, 1].
            matches: matches between them. A copy has the result of its original, see ``SolvedCameras.with_copies``.
            known: cameras whose intrinsics the solver keeps; without them, it estimates one focal length per scene.
            held: views that keep their pose in ``known``, in its world frame; none by default.
        """

    def depths_of(
        self,
        images: Float[Tensor, "b v 3 h w"],
        matches: Matches,
        cameras: Cameras,
        *,
        known: Cameras | None = None,
    ) -> SolvedCameras:
        """Given cameras with the depths that explain the matches; ``refine`` can start from the result.

        Poses keep their rotations. Their positions get the unit of length of the solver.

        Args:
            images: as for ``forward``.
            matches: as for ``forward``.
            cameras: cameras of the same views, from any model.
            known: as for ``forward``.

        Raises:
            InputError: the solver cannot start from given cameras, which is the default.
        """
        raise InputError(f"{type(self).__name__} cannot refine cameras; take the solver 'bundle_adjustment'")

    def refine(
        self,
        images: Float[Tensor, "b v 3 h w"],
        matches: Matches,
        solved: SolvedCameras,
        *,
        steps: int,
        known: Cameras | None = None,
        held: Bool[Tensor, "b v"] | None = None,
    ) -> SolvedCameras:
        """Better cameras, near those that another solver found.

        Args:
            images: as for ``forward``.
            matches: as for ``forward``.
            solved: cameras of the same views, found with the same ``known`` and ``held``.
            steps: number of optimisation steps, 1 or more.
            known: as for ``forward``.
            held: as for ``forward``.

        Raises:
            InputError: the solver cannot start from given cameras, which is the default.
        """
        raise InputError(f"{type(self).__name__} cannot refine cameras; take the solver 'bundle_adjustment'")

    @abstractmethod
    def loss(self, solved: SolvedCameras) -> Float[Tensor, ""]:
        """The loss that teaches the expectations of the solver its own results."""
