"""The similarity between two sets of poses: known transforms, degenerate cameras, optimality."""

import pytest
import torch
from torch import Tensor

from openrayzer.geometry.rotations import pose_from, se3_exp, so3_exp
from openrayzer.geometry.similarity import SMALLEST_SCALE, Similarity, motion_between, similarity_between
from openrayzer.types import Cameras


def random_poses(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return se3_exp(torch.randn(*shape, 6, generator=generator, dtype=torch.float64))


def random_similarity(batch: int, seed: int = 1) -> Similarity:
    generator = torch.Generator().manual_seed(seed)
    numbers = 2 * torch.randn(batch, 7, generator=generator, dtype=torch.float64)
    return Similarity(so3_exp(numbers[:, :3]), numbers[:, 3:6], numbers[:, 6].exp())


def assert_equal(found: Similarity, expected: Similarity):
    for name in ("rotation", "translation", "scale"):
        torch.testing.assert_close(getattr(found, name), getattr(expected, name), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("num_views", [2, 3, 8])
def test_a_known_similarity_is_found(num_views):
    moving, known = random_poses(5, num_views), random_similarity(5)
    assert_equal(similarity_between(moving, known.poses(moving)), known)


def test_centres_on_a_line_are_enough():
    # A fit to the centres alone could rotate about the line.
    moving, known = random_poses(4, 6), random_similarity(4)
    line = torch.arange(6.0, dtype=torch.float64)[:, None] * torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    moving[..., :3, 3] = line
    assert_equal(similarity_between(moving, known.poses(moving)), known)


def test_one_view_gives_scale_one_and_an_exact_match():
    moving, fixed = random_poses(3, 1), random_poses(3, 1, seed=2)
    found = similarity_between(moving, fixed)
    assert (found.scale == 1).all()
    torch.testing.assert_close(found.poses(moving), fixed)


@pytest.mark.parametrize("which", ["moving", "fixed", "both"])
@pytest.mark.parametrize("where", [0.0, 1e4])
def test_coinciding_centres_give_scale_one_and_equal_means(which, where):
    moving, fixed = random_poses(3, 4), random_poses(3, 4, seed=2)
    for name, poses in (("moving", moving), ("fixed", fixed)):
        if which in (name, "both"):
            poses[..., :3, 3] = where * 1.1
    found = similarity_between(moving.float(), fixed.float())
    assert (found.scale == 1).all()
    moved = found.poses(moving.float())[..., :3, 3].mean(dim=1)
    torch.testing.assert_close(moved, fixed[..., :3, 3].mean(dim=1).float(), atol=1e-2 if where else 1e-5, rtol=1e-5)


def test_mirrored_centres_give_a_proper_rotation():
    moving = random_poses(6, 5)
    fixed = moving.clone()
    fixed[..., :3, 3] *= torch.tensor([-1.0, 1.0, 1.0], dtype=torch.float64)
    found = similarity_between(moving, fixed)
    torch.testing.assert_close(torch.linalg.det(found.rotation), torch.ones(6, dtype=torch.float64))
    assert (found.scale > 0).all()


def test_rotations_that_cancel_still_give_a_rotation():
    omega = torch.tensor([[0.0, 0, 0], [torch.pi, 0, 0], [0, torch.pi, 0], [0, 0, torch.pi]], dtype=torch.float64)
    fixed = pose_from(so3_exp(omega), torch.zeros(4, 3, dtype=torch.float64))[None]
    found = similarity_between(torch.eye(4, dtype=torch.float64).expand(1, 4, 4, 4), fixed)
    torch.testing.assert_close(found.rotation @ found.rotation.mT, torch.eye(3, dtype=torch.float64)[None])
    assert torch.linalg.det(found.rotation).item() == pytest.approx(1)


def test_centres_that_contradict_the_rotation_give_the_smallest_scale():
    moving = random_poses(3, 5)
    fixed = moving.clone()
    fixed[..., :3, 3] *= -2
    found = similarity_between(moving, fixed)
    torch.testing.assert_close(found.scale, torch.full((3,), 2 * SMALLEST_SCALE, dtype=torch.float64))


def test_scale_and_translation_are_the_least_squares_fit():
    moving, fixed = random_poses(2, 6), random_poses(2, 6, seed=3)
    fixed[..., :3, 3] = 1.5 * moving[..., :3, 3] + 0.3 * fixed[..., :3, 3]
    fixed[..., :3, :3] = moving[..., :3, :3]
    found = similarity_between(moving, fixed)

    def error(similarity: Similarity) -> Tensor:
        return (similarity.poses(moving) - fixed)[..., :3, 3].square().sum(dim=(1, 2))

    for change in (0.99, 1.01):
        assert (error(Similarity(found.rotation, found.translation, change * found.scale)) > error(found)).all()
        assert (error(Similarity(found.rotation, found.translation + change - 1, found.scale)) > error(found)).all()


def test_the_rotation_is_the_chordal_mean_of_the_relative_rotations():
    moving, fixed = random_poses(1, 5), random_poses(1, 5, seed=4)
    fixed[..., :3, :3] = so3_exp(0.2 * fixed[..., :3, 3]) @ moving[..., :3, :3]
    found = similarity_between(moving, fixed)

    def error(rotation: Tensor) -> float:
        return (rotation[:, None] @ moving[..., :3, :3] - fixed[..., :3, :3]).square().sum().item()

    for axis in torch.eye(3, dtype=torch.float64):
        for angle in (-0.01, 0.01):
            assert error(so3_exp(angle * axis) @ found.rotation) > error(found.rotation)


def test_relative_poses_stay_the_same_up_to_scale_and_intrinsics_do_not_change():
    known, c2w = random_similarity(2), random_poses(2, 3)
    cameras = Cameras(c2w, torch.rand(2, 3, 4, dtype=torch.float64))
    moved = known.cameras(cameras)
    before, after = (torch.linalg.inv(poses[:, :1]) @ poses for poses in (c2w, moved.c2w))
    before[..., :3, 3] *= known.scale[:, None, None]
    torch.testing.assert_close(after, before)
    assert moved.intrinsics is cameras.intrinsics


def test_batch_elements_do_not_mix_and_float32_is_precise_enough():
    moving, fixed = random_poses(4, 5).float(), random_poses(4, 5, seed=5).float()
    together = similarity_between(moving, fixed)
    alone = similarity_between(moving[2:3], fixed[2:3])
    torch.testing.assert_close(together.poses(moving)[2:3], alone.poses(moving[2:3]))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(similarity_between(moving, fixed).poses(moving), together.poses(moving))
    exact = similarity_between(moving.double(), fixed.double()).poses(moving.double())
    torch.testing.assert_close(together.poses(moving).double(), exact, atol=1e-5, rtol=1e-5)


def test_a_motion_keeps_the_unit_of_length():
    moving, known = random_poses(3, 4), random_similarity(3)
    fixed = known.poses(moving)
    found = motion_between(moving, fixed)
    assert (found.scale == 1).all()
    torch.testing.assert_close(found.rotation, known.rotation)
    torch.testing.assert_close(found.poses(moving)[..., :3, 3].mean(1), fixed[..., :3, 3].mean(1))
