"""Cameras of painted rooms, and inputs from which no camera follows."""

import pytest
import torch
from painted_room import painted_rooms
from torch import Tensor

from openrayzer.components.matchers.patch_correlation import PatchCorrelation
from openrayzer.components.solvers.bundle_adjustment import BundleAdjustment
from openrayzer.evaluation.metrics.camera_metrics import direction_errors, pose_metrics, rotation_errors
from openrayzer.interfaces import InputError, SolvedCameras
from openrayzer.layers.tf32 import tf32_products
from openrayzer.types import Cameras


@pytest.fixture(scope="module")
def rooms():
    return painted_rooms(2, image_size=(64, 64), num_views=4)


@torch.no_grad()
def solved(images: Tensor, *, focal: float = 1.2, focal_starts: int = 1, fine_steps: int = 2) -> SolvedCameras:
    torch.manual_seed(0)
    matcher = PatchCorrelation().eval()
    solver = BundleAdjustment(starts=2, focal=focal, focal_starts=focal_starts, fine_steps=fine_steps).eval()
    return solver(images, matcher(images))


def assert_finite(result: SolvedCameras) -> None:
    for values in (result.cameras.c2w, result.cameras.intrinsics, result.inverse_depth, result.support):
        assert values.isfinite().all()
    for values in (result.residual, result.rotation_error, result.position_error):
        assert values.isfinite().all()
        assert (values >= 0).all()


def accuracy(result: SolvedCameras, name: str) -> float:
    """Mean of a pose metric over the rooms."""
    found, true = result.cameras, painted_rooms(2, image_size=(8, 8), num_views=4).cameras
    total = 0.0
    for clip in range(2):
        one = slice(clip, clip + 1)
        pair = [Cameras(cameras.c2w[one], cameras.intrinsics[one]) for cameras in (found, true)]
        total += pose_metrics(*pair)[name] / 2
    return total


def test_rotations_and_directions_of_painted_rooms_are_found(rooms):
    result = solved(rooms.images)
    assert accuracy(result, "rra@5") == 1
    assert accuracy(result, "rta@15") > 0.7
    assert result.supported.all()


def black(images: Tensor) -> Tensor:
    return torch.cat([images[:, :2], 0 * images[:, :1], images[:, 3:]], dim=1)


def mirrored(images: Tensor) -> Tensor:
    return torch.cat([images[:, :2], images[:, 2:3].flip(-1), images[:, 3:]], dim=1)


def of_another_room(images: Tensor) -> Tensor:
    return torch.cat([images[:, :2], images.flip(0)[:, 2:3], images[:, 3:]], dim=1)


@pytest.mark.parametrize("change", [black, mirrored, of_another_room])
def test_one_view_without_support_is_told_apart_from_the_others(rooms, change):
    result = solved(change(rooms.images))
    assert_finite(result)
    assert result.supported.tolist() == [[True, True, False, True]] * 2
    assert (result.rotation_error[:, 2] > 3 * result.rotation_error[:, [0, 1, 3]].amax(1)).all()


def test_views_of_different_rooms_support_each_other_nowhere(rooms):
    views = painted_rooms(4, image_size=(64, 64), num_views=1).images.transpose(0, 1)
    result = solved(views)
    assert_finite(result)
    assert not result.supported.any()
    torch.testing.assert_close(result.cameras.c2w, torch.eye(4).expand(1, 4, 4, 4))


def test_one_view_has_no_support(rooms):
    result = solved(rooms.images[:, :1])
    assert_finite(result)
    assert not result.supported.any()


def test_identical_views_have_equal_cameras(rooms):
    result = solved(rooms.images[:, :1].expand(-1, 3, -1, -1, -1).contiguous())
    assert_finite(result)
    torch.testing.assert_close(result.cameras.c2w, torch.eye(4).expand(2, 3, 4, 4), atol=1e-3, rtol=0)


def test_copies_of_a_view_change_no_camera(rooms):
    before, after = solved(rooms.images).cameras, solved(rooms.images[:, [0, 1, 1, 1, 2, 3]]).cameras
    once = after.select(torch.tensor([[0, 1, 4, 5]] * 2))
    assert rotation_errors(once.c2w.double(), before.c2w.double()).max() < 0.01
    assert direction_errors(once.c2w.double(), before.c2w.double()).max() < 0.1
    torch.testing.assert_close(once.intrinsics, before.intrinsics, atol=1e-3, rtol=0)


def test_several_starts_find_a_focal_length_far_from_the_prior(rooms):
    far = {number: solved(rooms.images, focal=2.2, focal_starts=number, fine_steps=9) for number in (1, 5)}
    wrong = {number: result.log_focal.abs().exp().sub(1) for number, result in far.items()}  # the true one is 1
    assert (wrong[5] < 0.15).all()
    assert (wrong[1] > 0.4).any()


def test_a_view_with_other_contrast_and_saturation_keeps_its_camera(rooms):
    images = rooms.images.clone()
    grey = images[:, 1].mean(1, keepdim=True)
    images[:, 1] = 0.05 + 0.85 * (grey + 0.6 * (images[:, 1] - grey))
    before, after = (solved(views, fine_steps=6).cameras for views in (rooms.images, images))
    assert rotation_errors(after.c2w.double(), before.c2w.double()).max() < 0.3
    assert direction_errors(after.c2w.double(), before.c2w.double()).max() < 5


def test_colours_are_compared_without_tf32(rooms, monkeypatch):
    allowed, baddbmm = [], torch.baddbmm

    def noted(*tensors: Tensor) -> Tensor:
        allowed.append(torch.backends.cuda.matmul.allow_tf32)
        return baddbmm(*tensors)

    monkeypatch.setattr(torch, "baddbmm", noted)
    with tf32_products(True):
        solved(rooms.images[:1, :2], fine_steps=1)
    assert allowed
    assert not any(allowed)


def test_a_moving_object_over_a_third_of_the_picture_leaves_the_rotations(rooms):
    images = rooms.images.clone()
    for view in range(4):
        images[:, view, :, 20:44, 4 + 8 * view : 32 + 8 * view] = rooms.images.flip(0)[:, 0, :, 20:44, 10:38]
    result = solved(images)
    assert_finite(result)
    assert accuracy(result, "rra@15") == 1


def test_jumps_of_the_exposure_leave_the_rotations(rooms):
    gains = torch.tensor([1.0, 0.5, 1.0, 1.5])[:, None, None, None]
    result = solved((gains * rooms.images).clamp(0, 1))
    assert_finite(result)
    assert accuracy(result, "rra@5") == 1
    assert result.supported.all()


def test_numbers_out_of_range_are_refused():
    with pytest.raises(InputError, match="starts"):
        BundleAdjustment(starts=0)
    with pytest.raises(InputError, match="focal"):
        BundleAdjustment(focal=0.0)


@torch.no_grad()
def test_given_cameras_get_depths_in_the_unit_of_the_solver(rooms):
    torch.manual_seed(0)
    matcher, solver = PatchCorrelation().eval(), BundleAdjustment().eval()
    matches, poses = matcher(rooms.images), rooms.cameras.c2w.clone()
    poses[..., :3, 3] = 20 * poses[..., :3, 3] + 3
    result = solver.depths_of(rooms.images, matches, Cameras(poses, rooms.cameras.intrinsics))
    assert result.supported.all()
    assert rotation_errors(result.cameras.c2w, poses).amax() < 0.1
    assert direction_errors(result.cameras.c2w, poses).amax() < 0.1
    assert 0.5 < result.inverse_depth.mean() < 2
    torch.testing.assert_close(result.cameras.intrinsics, rooms.cameras.intrinsics)
