"""Pose metrics by hand, and the scores of chance and of the baselines."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from openrayzer.evaluation.metrics.camera_baselines import CAMERA_BASELINES, constant_pose, random_poses, straight_line
from openrayzer.evaluation.metrics.camera_metrics import (
    accuracy_area,
    direction_errors,
    pose_metrics,
    relative_centres,
    rotation_errors,
)
from openrayzer.geometry.rotations import pose_from, rotation_from_quaternion, se3_exp, so3_exp
from openrayzer.geometry.similarity import Similarity
from openrayzer.types import Cameras, Views


def cameras(turns: list[list[float]], centres: list[list[float]], focal: float = 1.0) -> Cameras:
    """Cameras of one scene; ``turns`` are axes times degrees."""
    rotation = so3_exp(torch.tensor(turns, dtype=torch.float64).deg2rad())
    c2w = pose_from(rotation, torch.tensor(centres, dtype=torch.float64))
    return Cameras(c2w[None], torch.tensor([focal, focal, 0.5, 0.5]).repeat(1, len(turns), 1))


def random_cameras(num_views: int, seed: int = 0) -> Cameras:
    generator = torch.Generator().manual_seed(seed)
    c2w = se3_exp(torch.randn(1, num_views, 6, generator=generator, dtype=torch.float64))
    return Cameras(c2w, torch.tensor([0.8, 1.2, 0.5, 0.5]).repeat(1, num_views, 1))


def moved(true: Cameras, seed: int = 1) -> Cameras:
    """The same cameras in another frame and scale."""
    numbers = torch.randn(7, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    similarity = Similarity(so3_exp(numbers[None, :3]), numbers[None, 3:6], numbers[6:].exp())
    return similarity.cameras(true)


NONE = [[0.0, 0, 0]] * 3
TRIANGLE = [[0.0, 0, 0], [1, 0, 0], [0, 1, 0]]


def test_true_cameras_in_any_frame_and_scale_are_perfect():
    true = random_cameras(7)
    metrics = pose_metrics(moved(true), true)
    for name, value in metrics.items():
        assert value == pytest.approx(1 if "@" in name else 0, abs=1e-6), name


def test_pair_errors_by_hand():
    # The third camera is turned by 10 degrees, and its centre is rotated by 20 degrees about the first.
    far = [math.sin(math.radians(20)), math.cos(math.radians(20)), 0]
    estimated = cameras([[0, 0, 0], [0, 0, 0], [0, 10, 0]], [[0, 0, 0], [1, 0, 0], far])
    true = cameras(NONE, TRIANGLE)
    torch.testing.assert_close(rotation_errors(estimated.c2w, true.c2w)[0].tolist(), [0.0, 10.0, 10.0])
    # From the second, the third is at far - (1, 0, 0): an isosceles triangle with 70 degrees at its top. Its sides
    # are 55 degrees from the base; the true angle is 45 degrees.
    torch.testing.assert_close(direction_errors(estimated.c2w, true.c2w)[0].tolist(), [0.0, 20.0, 10.0])
    metrics = pose_metrics(estimated, true)
    assert (metrics["rra@5"], metrics["rra@15"], metrics["rra@30"]) == (1 / 3, 1, 1)
    assert (metrics["rta@5"], metrics["rta@15"], metrics["rta@30"]) == (1 / 3, 2 / 3, 1)
    assert (metrics["rpa@5"], metrics["rpa@15"], metrics["rpa@30"]) == (1 / 3, 2 / 3, 1)
    assert metrics["rotation_error_deg"] == pytest.approx(10)
    # Errors are 0, 10 and 20. Of the thresholds 1 to 30, all are above the first, 11 to 30 above the second, and 21 to
    # 30 above the third. Rounding decides whether an error is above or below a threshold equal to it.
    assert metrics["auc@5"] == pytest.approx(1 / 3)
    assert metrics["auc@30"] == pytest.approx((30 + 20.5 + 10.5) / 90, abs=1.01 / 90)


def test_pair_errors_are_those_of_the_published_matrices():
    # w2c of the first times c2w of the second: the angle of the trace, and the angle between the last columns.
    estimated, true = random_cameras(5, seed=2), random_cameras(5, seed=3)
    number = 0
    for first in range(5):
        for second in range(first + 1, 5):
            relative, wanted = (
                np.linalg.inv(cameras.c2w[0, first].numpy()) @ cameras.c2w[0, second].numpy()
                for cameras in (estimated, true)
            )
            trace = np.trace(relative[:3, :3].T @ wanted[:3, :3])
            angle = np.degrees(np.arccos((trace - 1) / 2))
            assert rotation_errors(estimated.c2w, true.c2w)[0, number].item() == pytest.approx(angle)
            ours, theirs = (matrix[:3, 3] / np.linalg.norm(matrix[:3, 3]) for matrix in (relative, wanted))
            angle = np.degrees(np.arccos(ours @ theirs))
            assert direction_errors(estimated.c2w, true.c2w)[0, number].item() == pytest.approx(angle)
            number += 1
    assert number == rotation_errors(estimated.c2w, true.c2w).shape[1]


def test_area_by_hand():
    errors = torch.tensor([0.0, 0.5, 1.0, 4.5, 90.0], dtype=torch.float64)
    # Below 1: two of five; below 2, 3, 4: three; below 5: four.
    assert accuracy_area(errors, 5) == pytest.approx((2 + 3 + 3 + 3 + 4) / 25)
    assert accuracy_area(errors, 1) == pytest.approx(2 / 5)


def test_the_second_view_is_seen_from_the_first():
    # The first camera looks along -z (half a turn about y), so +x of the world is at its left.
    poses = cameras([[0, 180, 0], [0, 0, 0]], [[1, 0, 0], [3, 0, 0]]).c2w
    torch.testing.assert_close(relative_centres(poses)[0, 0].tolist(), [-2.0, 0.0, 0.0])


def test_a_turned_first_camera_turns_directions():
    # World directions are equal, but the estimated first camera is turned by 40 degrees.
    estimated = cameras([[0, 40, 0], [0, 40, 0]], [[0, 0, 0], [1, 0, 0]])
    true = cameras([[0, 0, 0], [0, 0, 0]], [[0, 0, 0], [1, 0, 0]])
    assert direction_errors(estimated.c2w, true.c2w).item() == pytest.approx(40)
    assert rotation_errors(estimated.c2w, true.c2w).item() == pytest.approx(0)


def test_opposite_directions_count_as_equal_when_folded():
    true = cameras(NONE, TRIANGLE)
    backwards = Cameras(true.c2w.clone(), true.intrinsics)
    backwards.c2w[..., :3, 3] *= -1
    metrics = pose_metrics(backwards, true)
    assert (metrics["rta@5"], metrics["rta_unfolded@30"], metrics["rpa@5"], metrics["auc@5"]) == (1, 0, 1, 1)


@pytest.mark.parametrize("away", [0.0, 1e3])
def test_no_translation_counts_as_ninety_degrees(away):
    true = cameras(NONE, TRIANGLE)
    still = cameras(NONE, [[away, 0.1 * away, 0]] * 3)
    for estimated, other in ((still, true), (true, still), (still, still)):
        assert direction_errors(estimated.c2w, other.c2w)[0].tolist() == [90.0] * 3
    metrics = pose_metrics(still, true)
    assert (metrics["rra@5"], metrics["rta@30"], metrics["rpa@30"], metrics["auc@30"]) == (1, 0, 0, 0)


def test_centres_that_differ_by_rounding_only_have_no_direction():
    still = cameras(NONE, [[100.0, 0, 0], [100.00001, 0, 0], [100, 0.00001, 0]])
    assert direction_errors(still.c2w, cameras(NONE, TRIANGLE).c2w)[0].tolist() == [90.0] * 3


def test_thresholds_of_rpa_include_their_value_and_those_of_the_area_do_not():
    true = cameras([[0, 0, 0], [0, 0, 0]], [[0, 0, 0], [1, 0, 0]])
    estimated = cameras([[0, 0, 0], [5, 0, 0]], [[0, 0, 0], [1, 0, 0]])
    error = rotation_errors(estimated.c2w, true.c2w)[0]
    assert error.item() == pytest.approx(5, abs=1e-12)
    assert accuracy_area(torch.tensor([5.0]), 5) == 0
    assert pose_metrics(cameras([[0, 0, 0], [4.999, 0, 0]], [[0, 0, 0], [1, 0, 0]]), true)["rra@5"] == 1


def test_translation_error_by_hand():
    # Rotations fix the frame, so the alignment only scales and shifts centres and cannot undo exchanged corners.
    corners = [[1.0, 0, 0], [0, 1, 0], [-1, 0, 0], [0, -1, 0]]
    exchanged = [corners[0], corners[3], corners[2], corners[1]]
    true, estimated = (cameras([[0.0, 0, 0]] * 4, centres) for centres in (corners, exchanged))
    # The best scale is 0, raised to a thousandth: every centre is in the middle, at a distance of 1; the square has 2.
    assert pose_metrics(estimated, true)["translation_error"] == pytest.approx(1 / 2, abs=1e-5)
    shifted = cameras([[0.0, 0, 0]] * 4, [[c[0] * 3 + 1, c[1] * 3, 5] for c in corners])
    assert pose_metrics(shifted, true)["translation_error"] == pytest.approx(0, abs=1e-12)
    outlier = cameras([[0.0, 0, 0]] * 2, [[0, 0, 0], [1, 1, 0]])
    pair = cameras([[0.0, 0, 0]] * 2, [[0, 0, 0], [2, 0, 0]])
    # About their middles, (0.5, 0.5) maps onto (1, 0), best at scale 1; the rest is (0.5, -0.5), of a distance of 2.
    assert pose_metrics(outlier, pair)["translation_error"] == pytest.approx(math.sqrt(0.5) / 2)


def test_focal_error_is_the_median_share():
    true = cameras(NONE, TRIANGLE, focal=2.0)
    assert pose_metrics(cameras(NONE, TRIANGLE, focal=1.5), true)["focal_error"] == pytest.approx(0.25)
    assert pose_metrics(cameras(NONE, TRIANGLE, focal=2.5), true)["focal_error"] == pytest.approx(0.25)


def test_what_is_not_defined_is_nan():
    single = pose_metrics(random_cameras(1), random_cameras(1, seed=1))
    assert {name for name, value in single.items() if not math.isnan(value)} == {"focal_error"}
    still = cameras(NONE, [[1.0, 2, 3]] * 3)
    assert math.isnan(pose_metrics(random_cameras(3), still)["translation_error"])


def test_other_numbers_of_scenes_or_views_are_an_error():
    with pytest.raises(ValueError, match="expected one scene"):
        pose_metrics(random_cameras(3), random_cameras(4))
    two = Cameras(random_cameras(3).c2w.repeat(2, 1, 1, 1), random_cameras(3).intrinsics.repeat(2, 1, 1))
    with pytest.raises(ValueError, match="expected one scene"):
        pose_metrics(two, two)


def test_cameras_that_are_not_finite_score_nan_or_nothing():
    true, broken = random_cameras(4), random_cameras(4)
    broken.c2w[0, 1] = torch.nan
    metrics = pose_metrics(broken, true)
    assert (metrics["rra@5"], metrics["rpa@5"]) == (0.5, 0.5)
    assert math.isnan(metrics["translation_error"])
    assert math.isnan(metrics["rotation_error_deg"])


def test_a_camera_that_is_not_finite_counts_only_in_its_own_pairs():
    true = random_cameras(5)
    broken = Cameras(true.c2w.clone(), true.intrinsics)
    broken.c2w[0, 1] = torch.nan
    metrics = pose_metrics(broken, true)
    for name in ("rra@5", "rta@5", "rpa@5", "auc@5"):
        assert metrics[name] == pytest.approx(6 / 10), name  # 4 of 10 pairs have the broken camera


def test_chance_levels():
    """Chance levels of random rotations and directions: solid angle of a cap, volume of a ball in SO(3)."""
    generator = torch.Generator().manual_seed(0)

    def pairs_of_views() -> Tensor:
        drawn = torch.randn(200_000, 2, 7, generator=generator, dtype=torch.float64)
        return pose_from(rotation_from_quaternion(drawn[..., :4]), drawn[..., 4:])

    estimated, true = pairs_of_views(), pairs_of_views()
    direction, rotation = direction_errors(estimated, true)[:, 0], rotation_errors(estimated, true)[:, 0]
    folded = torch.minimum(direction, 180 - direction)
    for tau in (5, 15, 30):
        angle = math.radians(tau)
        cap = 1 - math.cos(angle)
        assert_share(folded <= tau, cap)
        assert_share(direction <= tau, cap / 2)
        assert_share(rotation <= tau, (angle - math.sin(angle)) / math.pi)


def assert_share(right: Tensor, expected: float):
    """Whether a share is within four standard deviations for independent events."""
    deviation = math.sqrt(expected * (1 - expected) / right.numel())
    assert abs(right.double().mean().item() - expected) < 4 * deviation


def clip(frames: list[int], scene: str = "attic") -> Views:
    chosen = torch.tensor([[0]])
    return Views(torch.zeros(1, len(frames), 3, 16, 24), torch.tensor([frames]), chosen, chosen, (scene,))


def test_a_constant_pose_is_right_where_the_camera_hardly_turns():
    true = cameras([[0, 0, 0], [0, 4, 0], [0, 8, 0]], TRIANGLE)
    metrics = pose_metrics(constant_pose(clip([0, 1, 2])), true)
    assert (metrics["rra@5"], metrics["rra@15"], metrics["rta@30"], metrics["auc@30"]) == (2 / 3, 1, 0, 0)


def test_the_straight_line_follows_frame_numbers():
    line = straight_line(clip([4, 6, 5, 10]))
    assert line.c2w[0, :, :3, 3].tolist() == [[0, 0, 0], [2, 0, 0], [1, 0, 0], [6, 0, 0]]
    torch.testing.assert_close(line.c2w[0, :, :3, :3], torch.eye(3).expand(4, 3, 3))
    true = cameras([[0, 0, 0]] * 4, [[0, 0, 0], [4, 0, 0], [2, 0, 0], [12, 0, 0]])
    assert pose_metrics(line, true)["rpa@5"] == 1
    assert pose_metrics(line, true)["translation_error"] == pytest.approx(0, abs=1e-7)


def test_random_poses_depend_on_the_scenes_name_only():
    first, again, other = (random_poses(clip([0, 1, 2], scene)) for scene in ("attic", "attic", "cellar"))
    assert torch.equal(first.c2w, again.c2w)
    assert not torch.equal(first.c2w, other.c2w)
    torch.testing.assert_close(torch.linalg.det(first.c2w), torch.ones(1, 3))


def test_random_poses_score_as_chance_does():
    scores = [
        pose_metrics(random_poses(clip(list(range(12)), f"scene {number}")), random_cameras(12, number))
        for number in range(60)
    ]
    chance = 1 - math.cos(math.radians(30))
    mean = sum(score["rta@30"] for score in scores) / len(scores)
    # 12 views make 66 pairs, which depend on each other; the 60 x 11 differences between neighbours do not.
    assert abs(mean - chance) < 4 * math.sqrt(chance / (60 * 11))


@pytest.mark.parametrize("name", CAMERA_BASELINES)
def test_baselines_guess_square_pixels_and_sixty_degrees(name):
    intrinsics = CAMERA_BASELINES[name](clip([0, 1])).intrinsics[0, 0]
    focal = 0.5 / math.tan(math.radians(30))  # in units of the shorter side, 16 pixels
    assert intrinsics.tolist() == pytest.approx([focal * 16 / 24, focal, 0.5, 0.5])
