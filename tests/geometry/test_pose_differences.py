"""Differences of cameras that ignore the world frame and the unit of length."""

import math

import pytest
import torch

from openrayzer.geometry.pose_differences import pose_differences
from openrayzer.geometry.rotations import pose_from, so3_exp
from openrayzer.geometry.similarity import Similarity


@pytest.fixture
def c2w() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    rotation = so3_exp(0.3 * torch.randn(2, 4, 3, generator=generator, dtype=torch.float64))
    return pose_from(rotation, torch.randn(2, 4, 3, generator=generator, dtype=torch.float64))


def test_cameras_in_another_frame_and_unit_are_equal(c2w):
    turn = so3_exp(torch.tensor([[0.4, -1.0, 0.2], [2.0, 0.1, 0.3]], dtype=torch.float64))
    moved = Similarity(
        turn, torch.ones(2, 3, dtype=torch.float64), torch.tensor([1.5, 5.0], dtype=torch.float64)
    ).poses(c2w)
    for difference in pose_differences(moved, c2w):
        torch.testing.assert_close(difference, torch.zeros_like(difference), atol=0.02, rtol=0)


def test_a_turned_camera_differs_by_its_chord(c2w):
    turned = c2w.clone()
    turned[:, 0, :3, :3] = turned[:, 0, :3, :3] @ so3_exp(torch.tensor([0.0, 0.6, 0.0], dtype=torch.float64))
    # 6 of the 12 pairs contain the camera.
    chord = 0.5 * math.sqrt(8) * math.sin(0.3)
    torch.testing.assert_close(
        pose_differences(turned, c2w).rotation, torch.full((2,), chord).double(), atol=1e-3, rtol=0
    )


def test_opposite_translations_have_the_largest_difference_of_direction(c2w):
    straight = torch.eye(4, dtype=torch.float64).repeat(1, 2, 1, 1)
    straight[0, 1, 0, 3] = 1.0
    back = straight.clone()
    back[0, 1, 0, 3] = -3.0
    difference = pose_differences(back, straight)
    torch.testing.assert_close(difference.direction, torch.tensor([2.0]).double(), atol=0.02, rtol=0)
    torch.testing.assert_close(difference.translation, torch.tensor([2.0]).double(), atol=0.02, rtol=0)


def test_gradients_are_bounded_where_all_poses_are_equal(c2w):
    start = torch.eye(4).repeat(2, 4, 1, 1).requires_grad_()
    pose_differences(start, c2w.float()).total().backward()
    assert start.grad is not None
    assert 0 < start.grad.abs().max() < 100


def test_a_single_view_has_no_difference():
    one = torch.eye(4).repeat(2, 1, 1, 1)
    assert pose_differences(one, one).total() == 0
