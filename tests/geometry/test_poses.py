"""Poses: inverse, change of frame, normalisation and interpolation, for random and degenerate cameras."""

import pytest
import torch

from openrayzer.geometry.poses import interpolate_cameras, interpolate_poses, invert, normalise_poses, relative_to
from openrayzer.geometry.rotations import geodesic_angle, pose_from, se3_exp, so3_exp
from openrayzer.types import Cameras

EYE = torch.eye(4)


def random_poses(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return se3_exp(0.8 * torch.randn(*shape, 6, generator=generator, dtype=dtype))


def test_invert_undoes_a_pose():
    pose = random_poses(4, 5)
    torch.testing.assert_close(invert(pose) @ pose, EYE.expand_as(pose), atol=1e-5, rtol=0)
    torch.testing.assert_close(invert(invert(pose)), pose, atol=1e-5, rtol=0)
    torch.testing.assert_close(invert(pose), torch.linalg.inv(pose), atol=1e-5, rtol=0)


def test_the_reference_view_becomes_the_identity():
    c2w, view = random_poses(3, 4), torch.tensor([0, 3, 1])
    relative = relative_to(c2w, view)
    torch.testing.assert_close(relative[torch.arange(3), view], EYE.expand(3, 4, 4), atol=1e-6, rtol=0)
    torch.testing.assert_close(relative[1], invert(c2w[1, 3]) @ c2w[1], atol=1e-5, rtol=0)


def test_relative_poses_do_not_depend_on_the_world_frame():
    c2w, view = random_poses(3, 4), torch.tensor([0, 3, 1])
    torch.testing.assert_close(relative_to(random_poses(seed=1) @ c2w, view), relative_to(c2w, view), atol=1e-5, rtol=0)


def test_relative_poses_are_exact_far_from_the_origin():
    c2w = random_poses(1, 3)
    far = c2w.clone()
    far[..., :3, 3] = (c2w[..., :3, 3] * 64).round() / 64
    near = relative_to(far, torch.tensor([0]))
    far[..., :3, 3] += 4096
    torch.testing.assert_close(relative_to(far, torch.tensor([0])), near)


def test_largest_normalised_coordinate_is_one_over_scene_scale():
    c2w = random_poses(4, 6)
    c2w[..., :3, 3] *= torch.tensor([1e-3, 1.0, 50.0, 1e4])[:, None, None]
    for scene_scale in (1.35, 1.0):
        largest = normalise_poses(c2w, scene_scale=scene_scale)[..., :3, 3].abs().amax(dim=(1, 2))
        torch.testing.assert_close(largest, torch.full((4,), 1 / scene_scale))


def test_normalised_poses_follow_the_mean_camera():
    c2w = random_poses(1, 6, dtype=torch.float64)
    centre, forward, down = (c2w[0, :, :3, axis].mean(0) for axis in (3, 2, 1))
    forward = forward / forward.norm()
    right = torch.linalg.cross(down, forward)
    right = right / right.norm()
    mean = torch.eye(4, dtype=torch.float64)
    mean[:3] = torch.stack([right, torch.linalg.cross(forward, right), forward, centre], dim=-1)
    expected = torch.linalg.inv(mean) @ c2w[0]
    expected[:, :3, 3] /= 1.35 * expected[:, :3, 3].abs().max()
    torch.testing.assert_close(normalise_poses(c2w)[0], expected)


def test_normalised_poses_do_not_depend_on_world_frame_or_scale():
    c2w = random_poses(2, 6)
    moved = random_poses(seed=1) @ c2w
    moved[..., :3, 3] *= 7
    torch.testing.assert_close(normalise_poses(moved), normalise_poses(c2w), atol=1e-5, rtol=0)


def test_normalising_twice_changes_nothing():
    once = normalise_poses(random_poses(2, 6))
    torch.testing.assert_close(normalise_poses(once), once, atol=2e-6, rtol=0)


def ring(views: int) -> torch.Tensor:
    """Cameras on a circle that look at its centre, so their viewing directions cancel."""
    angle = torch.arange(views) * (2 * torch.pi / views)
    zero = torch.zeros(views)
    c2w = EYE.repeat(views, 1, 1)
    c2w[:, :3, :3] = so3_exp(torch.stack([zero, angle, zero], dim=-1))
    c2w[:, :3, 3] = -3 * c2w[:, :3, 2]
    return c2w[None]


def looking_along_down(rotation: torch.Tensor) -> torch.Tensor:
    """Two cameras with a mean viewing direction parallel to the mean down axis."""
    first = torch.stack([torch.tensor([0.0, 0, 1]), torch.tensor([0.6, 0.8, 0]), torch.tensor([-0.8, 0.6, 0])], -1)
    second = torch.stack([torch.tensor([0.0, 0, -1]), torch.tensor([-0.6, 0.8, 0]), torch.tensor([0.8, 0.6, 0])], -1)
    c2w = EYE.repeat(2, 1, 1)
    c2w[:, :3, :3] = rotation @ torch.stack([first, second])
    c2w[1, 0, 3] = 1
    return c2w[None]


DEGENERATE = {
    "one_view": random_poses(1, 1),
    "coinciding": random_poses(1, 1).expand(1, 4, 4, 4),
    "coinciding_far_away": pose_from(torch.eye(3), torch.tensor([310.1, 770.3, 1130.7])).repeat(1, 7, 1, 1),
    "ring": ring(4),
    "large_ring": ring(12),
    "looking_along_down": looking_along_down(torch.eye(3)),
    "looking_along_down_rotated": looking_along_down(so3_exp(torch.tensor([0.4, 0.2, -1.0]))),
}


@pytest.mark.parametrize("c2w", DEGENERATE.values(), ids=DEGENERATE)
def test_degenerate_poses_normalise_to_rigid_poses(c2w):
    poses = normalise_poses(c2w)
    assert poses.isfinite().all()
    rotation = poses[..., :3, :3]
    torch.testing.assert_close(rotation.mT @ rotation, torch.eye(3).expand_as(rotation), atol=1e-5, rtol=0)
    torch.testing.assert_close(torch.linalg.det(rotation), torch.ones(rotation.shape[:2]))
    largest = poses[..., :3, 3].abs().max().item()
    assert largest == 0 or largest == pytest.approx(1 / 1.35)


def test_equal_centres_move_to_the_origin():
    assert (normalise_poses(DEGENERATE["coinciding_far_away"])[..., :3, 3] == 0).all()


def test_the_first_view_replaces_mean_directions_that_cancel():
    first = normalise_poses(ring(4))[0, 0]
    torch.testing.assert_close(first[:3, :3], torch.eye(3), atol=1e-6, rtol=0)


def test_interpolation_starts_and_ends_at_the_given_poses():
    start, end = random_poses(20), random_poses(20, seed=1)
    torch.testing.assert_close(interpolate_poses(start, end, torch.zeros(20)), start, atol=2e-6, rtol=0)
    torch.testing.assert_close(interpolate_poses(start, end, torch.ones(20)), end, atol=2e-6, rtol=0)


def test_interpolation_has_constant_angular_and_linear_velocity():
    start, end = random_poses(20), random_poses(20, seed=1)
    middle = interpolate_poses(start, end, torch.full((20,), 0.25))
    whole = geodesic_angle(start[:, :3, :3], end[:, :3, :3])
    torch.testing.assert_close(geodesic_angle(start[:, :3, :3], middle[:, :3, :3]), whole / 4, atol=2e-6, rtol=1e-5)
    torch.testing.assert_close(geodesic_angle(middle[:, :3, :3], end[:, :3, :3]), whole * 3 / 4, atol=2e-6, rtol=1e-5)
    torch.testing.assert_close(middle[:, :3, 3], 0.75 * start[:, :3, 3] + 0.25 * end[:, :3, 3])


def random_cameras(views: int) -> Cameras:
    generator = torch.Generator().manual_seed(0)
    return Cameras(random_poses(2, views), torch.rand(2, views, 4, generator=generator))


def test_a_path_passes_through_every_view_once():
    cameras = random_cameras(4)
    path = interpolate_cameras(cameras, 10)
    assert path.num_views == 10
    torch.testing.assert_close(path.c2w[:, ::3], cameras.c2w, atol=2e-6, rtol=0)
    torch.testing.assert_close(path.intrinsics[:, ::3], cameras.intrinsics)
    steps = (path.c2w[:, 1:] - path.c2w[:, :-1]).abs().amax(dim=(2, 3))
    assert (steps > 1e-3).all()


@pytest.mark.parametrize("num_frames", [1, 2, 7, 50])
@pytest.mark.parametrize("views", [2, 3, 12])
def test_a_path_starts_at_the_first_view_and_ends_at_the_last(views, num_frames):
    cameras = random_cameras(views)
    path = interpolate_cameras(cameras, num_frames)
    assert path.c2w.shape == (2, num_frames, 4, 4)
    torch.testing.assert_close(path.c2w[:, 0], cameras.c2w[:, 0], atol=2e-6, rtol=0)
    if num_frames > 1:
        torch.testing.assert_close(path.c2w[:, -1], cameras.c2w[:, -1], atol=2e-6, rtol=0)


def test_a_path_of_one_view_repeats_it():
    cameras = random_cameras(1)
    path = interpolate_cameras(cameras, 3)
    torch.testing.assert_close(path.c2w, cameras.c2w.expand(-1, 3, -1, -1), atol=2e-6, rtol=0)


def test_a_path_without_frames_is_an_error():
    with pytest.raises(ValueError, match="num_frames must be 1 or more, got 0"):
        interpolate_cameras(random_cameras(2), 0)


def test_gradients_are_correct():
    c2w = random_poses(1, 3, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(invert, c2w)
    assert torch.autograd.gradcheck(lambda poses: relative_to(poses, torch.tensor([1])), c2w)
