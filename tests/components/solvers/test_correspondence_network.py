"""Camera solver ``correspondence_network``: a student of bundle adjustment."""

from dataclasses import replace

import pytest
import torch

from openrayzer.components.matchers.patch_correlation import PatchCorrelation
from openrayzer.components.solvers.bundle_adjustment import BundleAdjustment
from openrayzer.components.solvers.correspondence_network import CorrespondenceNetwork
from openrayzer.components.solvers.learned_rounds import RoundInput
from openrayzer.components.solvers.lenses import poses_of
from openrayzer.components.solvers.lessons import Lesson, mirrored, with_fewer_views
from openrayzer.components.solvers.photometric import ColourChange
from openrayzer.components.solvers.projection import Bundle, Lenses, project
from openrayzer.geometry.rotations import so3_exp
from openrayzer.interfaces import InputError, Matches
from openrayzer.layers.image_sampling import image_points
from openrayzer.types import Cameras, map_tensors, select_views

GRID = (4, 5)


@pytest.fixture
def images() -> torch.Tensor:
    """Two clips of four views, 32 x 40 pixels: a smooth texture that moves to the left."""
    generator = torch.Generator().manual_seed(0)
    wide = torch.rand(2, 3, 9, 15, generator=generator)
    wide = torch.nn.functional.interpolate(wide, (32, 60), mode="bicubic").clamp(0, 1)
    return torch.stack([wide[..., 5 * view : 5 * view + 40] for view in range(4)], dim=1)


def student(**options: object) -> CorrespondenceNetwork:
    torch.manual_seed(0)
    teacher = BundleAdjustment(starts=1, focal_starts=1, fine_steps=1)
    return CorrespondenceNetwork(**{"teacher": teacher, "rounds": 3, "width": 8} | options)


def trained(solver: CorrespondenceNetwork) -> CorrespondenceNetwork:
    """The student in evaluation mode, with random weights in place of zeros."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in solver.rounds.parameters():
            weight.add_(0.1 * torch.randn(weight.shape, generator=generator))
    return solver.eval()


def matches_of(images: torch.Tensor) -> Matches:
    torch.manual_seed(0)
    return PatchCorrelation(cells=18)(images)


def consistent_lesson(num_views: int = 4) -> Lesson:
    """Random cameras and depths, with the places that they imply."""
    generator = torch.Generator().manual_seed(3)

    def noise(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    b, v, n = 2, num_views, GRID[0] * GRID[1]
    rotation = so3_exp(0.1 * noise(b, v, 3))
    bundle = Bundle(rotation, 0.2 * noise(b, v, 3), (0.2 * noise(b, v, n)).exp(), torch.tensor([0.1, 0.3]).double())
    others = torch.tensor([[j for j in range(v) if j != i][::-1] for i in range(v)]).expand(b, v, v - 1)
    lens = Lenses(torch.ones(b, v, 2).double(), 0.05 * noise(b, v, 2))
    points = image_points(GRID, GRID, "cpu").flatten(0, 1)
    places = project(bundle, lens, points.double(), others).point
    matches = Matches(points, GRID, others, places.float(), torch.rand(b, v, v - 1, n, generator=generator))
    change = ColourChange(torch.eye(3).expand(b, v, v - 1, 3, 3), torch.zeros(b, v, v - 1, 1, 3))
    given = RoundInput(lens, matches, bundle.inverse_depth.float(), change, bundle.log_focal, True)
    pictures = torch.rand(b * v, 3, 16, 20, generator=generator)
    return Lesson(given, pictures, poses_of(bundle), bundle.inverse_depth, torch.ones(b, v, n), bundle.log_focal)


def misfit(lesson: Lesson) -> float:
    """Largest distance between the matches of a lesson and the places that its cameras and depths imply."""
    inverse = torch.linalg.inv(lesson.poses)
    bundle = Bundle(inverse[..., :3, :3], inverse[..., :3, 3], lesson.inverse_depth, lesson.log_focal)
    matches = lesson.given.matches
    seen = project(bundle, lesson.given.lens, matches.points.double(), matches.neighbours)
    return float(((seen.point - matches.places).abs() * matches.counted[..., None, None]).max())


def relative(cameras: Cameras) -> torch.Tensor:
    poses = cameras.c2w.double()
    return torch.linalg.inv(poses[:, :1]) @ poses


def test_mirror_images_of_lessons_are_consistent():
    lesson = consistent_lesson()
    assert misfit(lesson) < 1e-5
    assert misfit(mirrored(lesson)) < 1e-5
    assert not torch.equal(mirrored(lesson).given.matches.places, lesson.given.matches.places)


@pytest.mark.parametrize("count", [2, 3])
def test_lessons_with_fewer_views_are_consistent(count):
    fewer = with_fewer_views(consistent_lesson(), count)
    assert fewer.poses.shape[1] == count
    assert fewer.given.matches.neighbours.shape[2] == count - 1
    assert fewer.pictures.shape[0] == 2 * count
    assert misfit(fewer) < 1e-5


def test_lessons_with_fewer_views_keep_the_matches_of_copies():
    lesson, originals = consistent_lesson(), torch.tensor([[0, 1, 1, 3]] * 2)
    given = map_tensors(lesson.given, lambda values: select_views(values, originals) if values.ndim > 2 else values)
    matches = replace(given.matches, originals=originals)
    matches = replace(matches, weights=matches.weights * matches.counted[..., None])
    poses, depth = (select_views(values, originals) for values in (lesson.poses, lesson.inverse_depth))
    copied = replace(lesson, given=given._replace(matches=matches), poses=poses, inverse_depth=depth)
    torch.manual_seed(0)
    seen = set()
    for _ in range(40):
        fewer = with_fewer_views(copied, 2)
        assert misfit(fewer) < 1e-5
        matches = fewer.given.matches
        assert torch.equal(matches.counted, (matches.weights > 0).any(-1))
        seen.add(int(matches.counted.sum()))
    assert seen == {0, 4}


def test_teachers_give_copies_of_a_view_one_camera(images):
    images = images[:, [0, 1, 1, 2]]
    taught = student().train()(images, matches_of(images)).taught
    torch.testing.assert_close(taught.cameras.c2w[:, 1], taught.cameras.c2w[:, 2], atol=0, rtol=0)
    assert taught.agreement[:, 0, :].amax() > 0.5
    with_copy = ~matches_of(images).counted[:, 0]
    assert with_copy.any()
    assert not taught.agreement[:, 0][with_copy].any()


@torch.no_grad()
def test_a_copy_changes_neither_the_other_cameras_nor_the_focal_length(images):
    solver = trained(student())
    before = solver(images[:, :3], matches_of(images[:, :3]))
    copied = images[:, [0, 1, 1, 2, 0]]
    after = solver(copied, matches_of(copied))
    kept = after.cameras.select(torch.tensor([[0, 1, 3]] * 2))
    torch.testing.assert_close(relative(kept), relative(before.cameras), atol=1e-5, rtol=0)
    torch.testing.assert_close(after.log_focal, before.log_focal, atol=1e-5, rtol=0)
    assert (before.log_focal - solver.log_focal).abs().max() > 1e-3


@torch.no_grad()
def test_a_view_is_found_among_held_views_with_a_copy_as_without_it(images):
    solver = trained(student())
    known = solver(images, matches_of(images)).cameras
    places, held = torch.tensor([[0, 1, 1, 2, 3]] * 2), torch.tensor([[True, True, True, True, False]] * 2)
    copied = images[:, places[0]]
    found = solver(copied, matches_of(copied), known=known.select(places), held=held).cameras
    alone = solver(images, matches_of(images), known=known, held=held[:, 1:]).cameras
    torch.testing.assert_close(found.c2w[:, -1], alone.c2w[:, -1], atol=1e-4, rtol=0)


def test_students_approach_the_cameras_of_the_lesson():
    lesson, solver = consistent_lesson(), student()
    optimizer = torch.optim.AdamW(solver.rounds.parameters(), lr=3e-3)
    losses = []
    for _ in range(10):
        loss = lesson.loss(solver._rounds(lesson.given, lesson.pictures)[1:])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert min(losses[-3:]) < 0.85 * losses[0]


@torch.no_grad()
def test_cameras_do_not_depend_on_the_order_of_views_or_on_other_clips(images):
    solver, order = trained(student()), torch.tensor([2, 0, 3, 1])
    cameras = solver(images, matches_of(images)).cameras
    other = solver(images[:, order], matches_of(images[:, order])).cameras
    assert (relative(cameras)[:, 1:] - torch.eye(4)).abs().max() > 0.01
    back = other.select(order.argsort().expand(2, -1))
    torch.testing.assert_close(relative(back), relative(cameras), atol=1e-5, rtol=0)
    alone = solver(images[1:], matches_of(images[1:])).cameras
    torch.testing.assert_close(alone.c2w, cameras.c2w[1:], atol=1e-5, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("finish_steps", [0, 2])
def test_held_views_keep_their_poses_and_known_intrinsics_stay(images, finish_steps):
    solver = trained(student(finish_steps=finish_steps))
    known = solver(images, matches_of(images)).cameras
    lenses = known.intrinsics.clone()
    lenses[..., :2] *= 1.3
    known = Cameras(torch.linalg.inv(known.c2w), lenses)
    held = torch.tensor([[True, False, True, False]]).expand(2, -1)
    cameras = solver(images, matches_of(images), known=known, held=held).cameras
    torch.testing.assert_close(cameras.c2w[:, ::2], known.c2w[:, ::2], atol=1e-5, rtol=0)
    torch.testing.assert_close(cameras.intrinsics, lenses)
    assert torch.isfinite(cameras.c2w).all()


@torch.no_grad()
def test_direct_steps_of_the_teacher_move_the_cameras(images):
    solver = trained(student())
    matches = matches_of(images)
    before = solver(images, matches)
    solver.finish_steps = 3
    after = solver(images, matches)
    assert (after.cameras.c2w - before.cameras.c2w).abs().max() > 1e-4
    assert torch.isfinite(after.cameras.c2w).all()


def test_renderers_take_the_cameras_of_the_teacher_first(images):
    images = images[:1, :3]
    solver, matches = student(teaching_steps=1).train(), matches_of(images)
    taught = solver.teacher(images, matches).cameras
    torch.testing.assert_close(solver(images, matches).cameras.c2w, taught.c2w)
    own = solver(images, matches).cameras
    assert (own.c2w - taught.c2w).abs().max() > 1e-3
    own.c2w.square().sum().backward()
    assert all(weight.grad is not None for weight in solver.rounds[0].twist.parameters())


def test_every_weight_gets_a_gradient(images):
    images = images[:1, :3]
    solver, matches = student().train(), matches_of(images)
    solved = solver(images, matches)
    (solver.loss(solved) + solved.cameras.c2w.sum() + solved.cameras.intrinsics.sum()).backward()
    missing = [name for name, weight in solver.named_parameters() if weight.grad is None]
    assert not missing


@torch.no_grad()
def test_one_view_and_black_images_have_finite_cameras(images):
    solver = trained(student())
    for pictures in (images[:, :1], torch.zeros_like(images)):
        solved = solver(pictures, matches_of(pictures))
        assert torch.isfinite(solved.cameras.c2w).all()
        assert torch.isfinite(solved.inverse_depth).all()


def test_wrong_use_is_refused(images):
    with pytest.raises(InputError, match="finish_steps from 0 to 6"):
        student(finish_steps=7)
    solver = student().eval()
    solved = solver(images, matches_of(images))
    with pytest.raises(InputError, match="only in training mode"):
        solver.loss(solved)
    with pytest.raises(InputError, match="cannot refine cameras"):
        solver.refine(images, matches_of(images), replace(solved), steps=1)
