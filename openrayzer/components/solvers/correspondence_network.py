"""Camera solver ``correspondence_network``: a network that learns from a solver and replaces it."""

import math
from dataclasses import dataclass, fields, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from openrayzer.components.solvers.depth_prior import DepthPrior
from openrayzer.components.solvers.gauss_newton import Priors
from openrayzer.components.solvers.learned_rounds import LearnedRound, RoundInput
from openrayzer.components.solvers.lenses import cameras_of, lens_of
from openrayzer.components.solvers.lessons import Lesson, lesson_from, mirrored, with_fewer_views
from openrayzer.components.solvers.photometric import colour_change, level
from openrayzer.components.solvers.projection import Bundle
from openrayzer.components.solvers.reprojection import SUPPORTED, certainty
from openrayzer.geometry.precision import no_autocast
from openrayzer.geometry.similarity import similarity_between
from openrayzer.interfaces import CAMERA_SOLVERS, CameraSolver, InputError, Matches, SolvedCameras
from openrayzer.layers.image_sampling import resized, working_size
from openrayzer.types import Cameras

_SIDE = 64
_BLURS = (1.5, 1.5, 0.8, 0.8, 0.5)
"""Blurs of the pictures in the first rounds, in pixels of an image of 64 x 64; later rounds have the last one."""
_FIRST_ROUNDS = 2
"""The focal length changes after these rounds, when poses have formed."""


@dataclass(frozen=True)
class TaughtCameras(SolvedCameras):
    """Cameras of a student in training.

    Attributes:
        taught: the result of the teacher.
        own_depth: inverse depths that the student expects from each image alone, with gradients.
        difference: differences between student and teacher, with gradients.
    """

    taught: SolvedCameras
    own_depth: Float[Tensor, "b v n"]
    difference: Float[Tensor, ""]


@CAMERA_SOLVERS.register("correspondence_network")
class CorrespondenceNetwork(CameraSolver):
    """Estimates cameras from matches by a few rounds of a network, without search and without optimisation.

    Each round reads the misfit of the present cameras and turns and moves every camera once, see ``LearnedRound``. All
    views start with equal poses. The order of the views has no influence.

    In training, the teacher solves every clip, and the student learns its relative poses, depths and focal length from
    the clip, from its mirror image and from half of its views. For ``teaching_steps`` batches, the renderer takes the
    teacher's cameras. Afterwards it takes the student's cameras, so that the photometric loss reaches the student, and
    the differences to the teacher count ``later_weight`` times.

    Args:
        teacher: the solver that teaches.
        rounds: number of rounds.
        width: hidden channels of a round.
        finish_steps: number of photometric steps of the teacher that follow the rounds outside of training.
        teaching_steps: number of training batches in which the renderer takes the teacher's cameras.
        later_weight: weight of the differences to the teacher after these batches.
        focal: focal length divided by sqrt(h * w) pixels, before training.

    Raises:
        InputError: a number is out of range.

    Source: rounds that read the misfit of the present estimate as in Teed and Deng 2021, "DROID-SLAM".
    """

    step: Tensor

    def __init__(
        self,
        *,
        teacher: CameraSolver,
        rounds: int = 6,
        width: int = 40,
        finish_steps: int = 0,
        teaching_steps: int = 1000,
        later_weight: float = 0.1,
        focal: float = 1.2,
    ) -> None:
        super().__init__()
        if min(rounds, width) < 1 or not 0 <= finish_steps <= 6 or teaching_steps < 0 or later_weight < 0 or focal <= 0:
            raise InputError(
                "correspondence_network needs rounds and width >= 1, finish_steps from 0 to 6, teaching_steps and "
                f"later_weight >= 0, and focal > 0; got {rounds}, {width}, {finish_steps}, {teaching_steps}, "
                f"{later_weight}, {focal}"
            )
        self.teacher, self.width, self.finish_steps = teacher, width, finish_steps
        self.teaching_steps, self.later_weight = teaching_steps, later_weight
        self.depth_prior = DepthPrior()
        self.rounds = nn.ModuleList(
            LearnedRound(width, changes_focal=number >= _FIRST_ROUNDS) for number in range(rounds)
        )
        self.log_focal = nn.Parameter(torch.tensor([math.log(focal)]))
        self.register_buffer("step", torch.zeros((), dtype=torch.long))

    def forward(
        self,
        images: Float[Tensor, "b v 3 h w"],
        matches: Matches,
        *,
        known: Cameras | None = None,
        held: Bool[Tensor, "b v"] | None = None,
    ) -> SolvedCameras:
        with no_autocast(images):
            given, pictures = self._input(images, matches, known)
            bundles = self._rounds(given, pictures)
            solved = self._solved(bundles[-1], given, images, known).with_copies(matches.originals)
        if self.training:
            taught = self.teacher(images, matches, known=known, held=held)
            return self._taught(solved, bundles[1:], lesson_from(given, pictures, taught), taught)
        if known is not None and held is not None:
            solved = _aligned(solved, known, held)
        if not self.finish_steps:
            return solved
        return self.teacher.refine(images, matches, solved, steps=self.finish_steps, known=known, held=held)

    def loss(self, solved: SolvedCameras) -> Float[Tensor, ""]:
        """Differences to the teacher in poses, depths and focal length, plus the loss of the teacher."""
        if not isinstance(solved, TaughtCameras):
            raise InputError("correspondence_network has a loss only in training mode")
        taught = solved.taught
        sure = taught.point_agreement
        wanted = taught.inverse_depth / taught.inverse_depth.mean(dim=(1, 2), keepdim=True)
        wrong = ((solved.own_depth.log() - wanted.log()).abs() * sure).sum() / sure.sum().clamp(min=1)
        weight = torch.where(self.step <= self.teaching_steps, 1.0, self.later_weight)
        return (weight * solved.difference + wrong).float() + self.teacher.loss(taught)

    def _input(self, images: Tensor, matches: Matches, known: Cameras | None) -> tuple[RoundInput, Tensor]:
        image_size, views = (images.shape[-2], images.shape[-1]), (images.shape[0], images.shape[1])
        small = resized(images.float().flatten(0, 1), working_size(image_size, _SIDE, 4))
        expected = self.depth_prior(small.unflatten(0, views), matches.grid)
        lens, log_focal = lens_of(image_size, known, self.log_focal, views)
        with torch.no_grad():
            colours = colour_change(small, matches, 1.5)
        matches = replace(matches, likelihood=None, weights=matches.weights.detach())
        return RoundInput(lens, matches, expected, colours, log_focal, free_focal=known is None), small

    def _rounds(self, given: RoundInput, pictures: Float[Tensor, "n 3 h w"]) -> list[Bundle]:
        """The bundle before the first round and after each round."""
        points = given.matches.points
        b, v, n = given.expected.shape
        eye = torch.eye(3, dtype=torch.float64, device=points.device).expand(b, v, 3, 3)
        # The network of the expected depths learns from depths alone, as in bundle adjustment.
        depth = given.expected.detach()
        given = given._replace(expected=depth)
        bundles = [Bundle(eye, eye.new_zeros(b, v, 3), depth.double(), given.log_focal)]
        hidden = depth.new_zeros(b, v, n, self.width)
        if v < 2:
            return bundles
        with torch.no_grad():
            levels = {blur: level(pictures, v, blur, points) for blur in set(_BLURS)}
        for number, layer in enumerate(self.rounds):
            at = levels[_BLURS[min(number, len(_BLURS) - 1)]]
            bundle, hidden = layer(bundles[-1], given, at, hidden)
            bundles.append(bundle)
        return bundles

    def _solved(self, bundle: Bundle, given: RoundInput, images: Tensor, known: Cameras | None) -> SolvedCameras:
        b, v, _ = given.expected.shape
        zeros = bundle.translation.new_zeros(b)
        priors = Priors(given.expected.double(), zeros + 3e-4, given.log_focal, zeros, zeros[:, None].expand(b, v))
        detached = Bundle(
            *(value.detach() for value in (bundle.rotation, bundle.translation, bundle.inverse_depth, bundle.log_focal))
        )
        sure = certainty(detached, given.lens, given.matches, priors)
        cameras = cameras_of(bundle, given.lens, (images.shape[-2], images.shape[-1]), known)
        return SolvedCameras(
            cameras, detached.log_focal, detached.inverse_depth, given.expected,
            **{name: value.float() for name, value in sure._asdict().items()}, supported=sure.support > SUPPORTED,
        )  # fmt: skip

    def _taught(
        self, solved: SolvedCameras, bundles: list[Bundle], lesson: Lesson, taught: SolvedCameras
    ) -> TaughtCameras:
        """The cameras that the renderer takes, with the matches and depths of the teacher."""
        with torch.no_grad():
            self.step += 1
        difference = lesson.loss(bundles)
        v, k = lesson.given.matches.neighbours.shape[1:]
        others = [mirrored(lesson)]
        if k == v - 1 > 1:
            others.append(with_fewer_views(lesson, (v + 1) // 2))
        for other in others:
            difference = difference + other.loss(self._rounds(other.given, other.pictures)[1:])
        early = self.step <= self.teaching_steps
        poses = torch.where(early, taught.cameras.c2w, solved.cameras.c2w)
        intrinsics = torch.where(early, taught.cameras.intrinsics, solved.cameras.intrinsics)
        shown = replace(taught, cameras=Cameras(poses, intrinsics))
        return TaughtCameras(
            **{entry.name: getattr(shown, entry.name) for entry in fields(SolvedCameras)},
            taught=taught,
            own_depth=solved.expected_depth,
            difference=difference,
        )


def _aligned(solved: SolvedCameras, known: Cameras, held: Bool[Tensor, "b v"]) -> SolvedCameras:
    """The cameras after the similarity that maps the held views to their known poses, which they take exactly.

    The held views of all scenes must be equal in number; without any, nothing changes.
    """
    places = held.int().argsort(dim=1, descending=True, stable=True)[:, : int(held[0].sum())]
    if not places.shape[1]:
        return solved
    poses = solved.cameras.select(places).c2w.double()
    similarity = similarity_between(poses, known.select(places).c2w.double())
    moved = similarity.poses(solved.cameras.c2w.double()).float()
    c2w = torch.where(held[..., None, None], known.c2w.float(), moved)
    depth = solved.inverse_depth / similarity.scale[:, None, None].to(solved.inverse_depth)
    return replace(solved, cameras=Cameras(c2w, solved.cameras.intrinsics), inverse_depth=depth)
