"""What every camera solver promises."""

import pytest
import torch
from painted_room import painted_rooms
from small import names

from openrayzer.geometry.poses import invert
from openrayzer.interfaces import CAMERA_SOLVERS, MATCHERS, Matches, SolvedCameras
from openrayzer.types import Cameras, Views

EVERY_SOLVER = pytest.mark.parametrize("name", names(CAMERA_SOLVERS))
NUM_VIEWS = 4


@pytest.fixture(scope="module")
def clips() -> Views:
    """Two clips of four views, 40 x 48 pixels."""
    return painted_rooms(2, image_size=(40, 48), num_views=NUM_VIEWS)


@pytest.fixture
def matches_of(small):
    """``matches_of(images)`` finds matches without training."""
    matcher = small(MATCHERS, "patch_correlation").eval()

    def found(images: torch.Tensor) -> Matches:
        with torch.no_grad():
            return matcher(images)

    return found


def relative_poses(cameras: Cameras) -> torch.Tensor:
    """Poses in the frame of the first view, because the solver chooses the world frame."""
    return invert(cameras.c2w[:, :1].double()) @ cameras.c2w.double()


def assert_finite(solved: SolvedCameras) -> None:
    for name in ("log_focal", "inverse_depth", "support", "residual", "rotation_error", "position_error"):
        assert getattr(solved, name).isfinite().all(), name
    assert solved.cameras.c2w.isfinite().all()
    assert solved.cameras.intrinsics.isfinite().all()


@EVERY_SOLVER
@pytest.mark.parametrize("num_views", [1, 2, NUM_VIEWS])
@torch.no_grad()
def test_cameras_are_rigid_with_one_focal_length_per_scene(small, name, clips, matches_of, num_views):
    images = clips.images[:, :num_views]
    solved = small(CAMERA_SOLVERS, name).eval()(images, matches_of(images))
    assert_finite(solved)
    rotation = solved.cameras.c2w[..., :3, :3]
    torch.testing.assert_close(rotation @ rotation.mT, torch.eye(3).expand_as(rotation), atol=1e-5, rtol=0)
    assert solved.cameras.c2w.dtype == solved.cameras.intrinsics.dtype == torch.float32
    fx, fy, _, _ = solved.cameras.intrinsics.unbind(-1)
    torch.testing.assert_close(fx * 48, fy * 40)
    torch.testing.assert_close(fx, fx[:, :1].expand_as(fx))
    assert solved.supported.shape == solved.support.shape == (2, num_views)


@EVERY_SOLVER
@pytest.mark.parametrize("training", [False, True])
@torch.no_grad()
def test_a_copy_has_the_camera_of_its_original(small, name, clips, matches_of, training):
    images = clips.images[:, [0, 1, 1, 2]]
    c2w = small(CAMERA_SOLVERS, name).train(training)(images, matches_of(images)).cameras.c2w
    torch.testing.assert_close(c2w[:, 2], c2w[:, 1], atol=0, rtol=0)
    assert (c2w[:, 0] - c2w[:, 1]).abs().max() > 0


@EVERY_SOLVER
@torch.no_grad()
def test_the_order_of_the_views_does_not_matter(small, name, clips, matches_of):
    solver, order = small(CAMERA_SOLVERS, name).eval(), [2, 0, 3, 1]
    shuffled = clips.images[:, order]
    found = solver(clips.images, matches_of(clips.images)).cameras
    again = solver(shuffled, matches_of(shuffled)).cameras
    ordered = Cameras(found.c2w[:, order], found.intrinsics[:, order])
    torch.testing.assert_close(relative_poses(again), relative_poses(ordered), atol=1e-4, rtol=0)
    torch.testing.assert_close(again.intrinsics, ordered.intrinsics, atol=1e-4, rtol=0)


@EVERY_SOLVER
@torch.no_grad()
def test_batch_elements_are_independent(small, name, clips, matches_of):
    solver, images = small(CAMERA_SOLVERS, name).eval(), clips.images
    together = solver(images, matches_of(images)).cameras
    alone = solver(images[1:], matches_of(images[1:])).cameras
    torch.testing.assert_close(together.c2w[1:], alone.c2w, atol=1e-4, rtol=0)
    torch.testing.assert_close(together.intrinsics[1:], alone.intrinsics, atol=1e-4, rtol=0)


@EVERY_SOLVER
@torch.no_grad()
def test_held_views_keep_their_poses_and_known_intrinsics_stay(small, name, clips, matches_of):
    held = torch.arange(NUM_VIEWS).expand(2, NUM_VIEWS) < NUM_VIEWS - 1
    solver, true = small(CAMERA_SOLVERS, name).eval(), clips.cameras
    solved = solver(clips.images, matches_of(clips.images), known=true, held=held)
    torch.testing.assert_close(solved.cameras.c2w[held], true.c2w[held], atol=1e-4, rtol=0)
    assert torch.equal(solved.cameras.intrinsics, true.intrinsics)


@EVERY_SOLVER
@pytest.mark.parametrize("colour", [0.0, 0.5])
@torch.no_grad()
def test_views_without_content_have_finite_cameras(small, name, matches_of, colour):
    images = torch.full((1, 3, 3, 32, 32), colour)
    assert_finite(small(CAMERA_SOLVERS, name).eval()(images, matches_of(images)))


@EVERY_SOLVER
def test_its_loss_has_finite_gradients(small, name, clips, matches_of):
    solver = small(CAMERA_SOLVERS, name).train()
    loss = solver.loss(solver(clips.images, matches_of(clips.images)))
    assert loss.shape == ()
    loss.backward()
    for parameter, weight in solver.named_parameters():
        assert weight.grad is None or weight.grad.isfinite().all(), parameter
    assert any(weight.grad is not None for weight in solver.parameters())
