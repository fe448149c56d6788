"""Solved clips from which a student learns: unchanged, mirrored, and with fewer views."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from openrayzer.components.solvers.learned_rounds import RoundInput
from openrayzer.components.solvers.lenses import poses_of
from openrayzer.components.solvers.photometric import ColourChange
from openrayzer.components.solvers.projection import Bundle, Lenses
from openrayzer.geometry.pose_differences import pose_differences
from openrayzer.interfaces import Matches, SolvedCameras
from openrayzer.types import first_equal, select_views


@dataclass(frozen=True)
class Lesson:
    """The input of a student and the teacher's result.

    Attributes:
        given: matches and expected depths.
        pictures: all views of all scenes.
        poses: the teacher's poses, camera to world.
        inverse_depth: its inverse depth of each point.
        sure: how far to trust this depth, 0 to 1.
        log_focal: its focal lengths.
    """

    given: RoundInput
    pictures: Float[Tensor, "n 3 h w"]
    poses: Float[Tensor, "b v 4 4"]
    inverse_depth: Float[Tensor, "b v points"]
    sure: Float[Tensor, "b v points"]
    log_focal: Float[Tensor, " b"]

    def loss(self, bundles: list[Bundle]) -> Float[Tensor, ""]:
        """Differences of the student's cameras to the teacher's after each round; later rounds count more.

        Copies of a view have the pose and depths of their original.
        """
        originals = _originals(self.given.matches)
        total = self.inverse_depth.new_zeros(())
        for number, bundle in enumerate(bundles):
            depth = select_views(bundle.inverse_depth, originals)
            wrong_depth = ((depth.log() - self.inverse_depth.log()).abs() * self.sure).mean()
            wrong_focal = (bundle.log_focal - self.log_focal).abs().mean()
            wrong_poses = pose_differences(select_views(poses_of(bundle), originals), self.poses.double()).total()
            total = total + 0.6 ** (len(bundles) - 1 - number) * (wrong_poses + 0.1 * wrong_depth + 0.2 * wrong_focal)
        return total


def lesson_from(given: RoundInput, pictures: Float[Tensor, "n 3 h w"], taught: SolvedCameras) -> Lesson:
    """The lesson of a clip that the teacher has solved, without gradients."""
    poses, depth = taught.cameras.c2w.detach(), taught.inverse_depth.double()
    return Lesson(given, pictures, poses, depth, taught.point_agreement.detach(), taught.log_focal.double())


def _originals(matches: Matches) -> Int[Tensor, "b v"]:
    b, v = matches.weights.shape[:2]
    every = torch.arange(v, device=matches.weights.device).expand(b, v)
    return every if matches.originals is None else matches.originals


def mirrored(lesson: Lesson) -> Lesson:
    """The lesson of the clip in a mirror that exchanges left and right."""
    given, grid = lesson.given, lesson.given.matches.grid

    def flipped(values: Tensor, axis: int) -> Tensor:
        return values.unflatten(axis, grid).flip(axis + 1).flatten(axis, axis + 1)

    sides = 1 - 2 * torch.eye(4, dtype=lesson.poses.dtype, device=lesson.poses.device)[0]
    matches = given.matches
    matches = replace(
        matches, weights=flipped(matches.weights, 3), places=flipped(matches.places, 3) * sides[:2].to(matches.places)
    )
    lens = Lenses(given.lens.focal, given.lens.centre * sides[:2].to(given.lens.centre))
    given = given._replace(matches=matches, lens=lens, expected=flipped(given.expected, 2))
    return replace(
        lesson, given=given, pictures=lesson.pictures.flip(-1), poses=sides[:, None] * lesson.poses * sides,
        inverse_depth=flipped(lesson.inverse_depth, 2), sure=flipped(lesson.sure, 2),
    )  # fmt: skip


def with_fewer_views(lesson: Lesson, count: int) -> Lesson:
    """The lesson with the first ``count`` views of a random order. Its views must all be neighbours of each other."""
    given, matches = lesson.given, lesson.given.matches
    b, v = matches.weights.shape[:2]
    kept = torch.randperm(v, device=matches.weights.device)[:count]
    views = _originals(matches)[:, kept]  # only they have matches
    originals = first_equal(views[:, :, None] == views[:, None])
    order = select_views(matches.neighbours.argsort(dim=2), views)  # of the views but the own one
    others = torch.arange(count - 1, device=kept.device).expand(count, -1)
    others = others + (others >= torch.arange(count, device=kept.device)[:, None])  # count count-1
    wanted = views[:, others] - (views[:, others] > views[..., None]).long()  # positions among the other views
    place = order.gather(2, wanted.clamp(max=v - 2))  # two copies have no place, and their pair does not count
    rows = torch.arange(b, device=kept.device)[:, None, None]

    def of_pairs(values: Tensor) -> Tensor:
        return values[rows, views[..., None], place]

    matches = replace(
        matches, originals=originals, neighbours=others.expand(b, -1, -1),
        places=of_pairs(matches.places), weights=of_pairs(matches.weights),
    )  # fmt: skip
    matches = replace(matches, weights=matches.weights * matches.counted[..., None])
    expected = given.expected[:, kept]
    given = given._replace(
        matches=matches, lens=Lenses(given.lens.focal[:, kept], given.lens.centre[:, kept]),
        colours=ColourChange(of_pairs(given.colours.matrix), of_pairs(given.colours.shift)),
        expected=expected / expected.mean(dim=(1, 2), keepdim=True),
    )  # fmt: skip
    return replace(
        lesson, given=given, pictures=lesson.pictures.unflatten(0, (b, v))[:, kept].flatten(0, 1),
        poses=lesson.poses[:, kept], inverse_depth=lesson.inverse_depth[:, kept], sure=lesson.sure[:, kept],
    )  # fmt: skip
