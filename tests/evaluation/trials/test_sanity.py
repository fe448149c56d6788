"""The sanity battery: true poses pass all checks, and each shortcut fails its check."""

from dataclasses import replace

import pytest
import torch
from doubles import BlindModel, BrokenModel, CarryingModel, IndexModel, PerfectModel, clips
from small_models import ESTIMATORS, lvsm
from torch import Tensor

from openrayzer.evaluation.placements import PLACEMENTS
from openrayzer.evaluation.trials.sanity import CHECKS, SanityResult, left_out, sanity_battery
from openrayzer.geometry.rotations import pose_from, so3_exp
from openrayzer.interfaces import InputError, Model
from openrayzer.types import Cameras, Views

GIVEN, JOINT, CONTEXT_ONLY = (PLACEMENTS[name] for name in ("given_poses", "joint", "context_only"))


def two_clips() -> Views:
    return clips([[0, 3, 6, 9, 12, 15]] * 2, [[0, 2, 5]] * 2, [[1, 2, 3, 4]] * 2)


def battery(model: Model, placement=JOINT) -> dict[str, list[SanityResult]]:
    results = sanity_battery(model, two_clips(), placement=placement)
    return {name: [result for result in results if result.check == name] for name in CHECKS}


@pytest.mark.parametrize("placement", [JOINT, CONTEXT_ONLY])
def test_true_poses_pass_everything(placement):
    results = battery(PerfectModel(), placement)
    for name, check in CHECKS.items():
        if (name, placement) == ("dropped_views", CONTEXT_ONLY):
            assert not results[name]
            continue
        assert [result.scene for result in results[name]] == ["world 0", "world 1"]
        for result in results[name]:
            assert result.passed, result
            if check.poses_stay:
                moved = (result.rotation_deg, result.direction_deg, result.centre_change)
                assert moved == pytest.approx((0, 0, 0), abs=1e-2)
            else:
                assert result.direction_deg > 1


def assert_fails(results: list[SanityResult], *, passes: bool = False):
    assert len(results) == 2
    assert all(result.passed is passes for result in results), results


def test_poses_from_the_position_in_the_list_fail_shuffled_dropped_and_repeated_views():
    results = battery(IndexModel())
    for name in ("shuffled_order", "dropped_views", "repeated_views"):
        assert_fails(results[name])
        assert min(result.centre_change for result in results[name]) > 0.05
    # This model heeds its cameras and ignores colours, so these checks do not find it.
    assert_fails(results["colour_change"], passes=True)


def test_poses_from_the_position_in_the_list_fail_with_context_only_as_well():
    assert_fails(battery(IndexModel(), CONTEXT_ONLY)["shuffled_order"])


@pytest.mark.parametrize("placement", [JOINT, CONTEXT_ONLY])
def test_poses_with_pixels_fail_the_colour_change(placement):
    results = battery(CarryingModel(), placement)
    assert_fails(results["colour_change"])
    assert min(result.centre_change for result in results["colour_change"]) > 0.05


def test_a_renderer_that_ignores_its_camera_fails_the_nearest_pose():
    results = battery(BlindModel())
    assert_fails(results["nearest_context_pose"])
    assert [result.psnr_change for result in results["nearest_context_pose"]] == [0, 0]
    for name in CHECKS.keys() - {"nearest_context_pose"}:
        assert_fails(results[name], passes=True)


def test_equal_poses_fail_only_the_nearest_pose():
    class Still(BlindModel):
        """Shortcut: all cameras are equal."""

        def estimate(self, images: Tensor, intrinsics: Tensor | None = None) -> Cameras:
            b, v = images.shape[:2]
            return Cameras(torch.eye(4).repeat(b, v, 1, 1), torch.ones(b, v, 4))

    for name, results in battery(Still()).items():
        assert_fails(results, passes=name != "nearest_context_pose")
        for result in results:
            assert (result.rotation_deg, result.direction_deg, result.centre_change) == (0, 0, 0)


def test_cameras_that_only_turn_have_no_centre_change_in_any_frame():
    class Turning(BlindModel):
        """All centres are one point of a world with axes that depend on the images; only rounding changes them."""

        def estimate(self, images: Tensor, intrinsics: Tensor | None = None) -> Cameras:
            b, v = images.shape[:2]
            world = so3_exp(images.mean(dim=(1, 2, 3, 4))[:, None] * torch.tensor([1.0, 2.0, 3.0]))
            centre = (world @ torch.tensor([0.1, 0.2, 0.3]))[:, None].expand(b, v, 3)
            return Cameras(pose_from(world[:, None].expand(b, v, 3, 3), centre), torch.ones(b, v, 4))

    for name, results in battery(Turning()).items():
        assert_fails(results, passes=name != "nearest_context_pose")
        assert [result.centre_change for result in results] == [0, 0]


def test_cameras_that_are_not_finite_fail_and_affect_only_their_clip():
    for name, (whole, broken) in battery(BrokenModel()).items():
        assert whole.passed, name
        assert not broken.passed, name


def test_only_the_estimator_sees_changed_colours(monkeypatch):
    model, views, seen = PerfectModel(), two_clips(), []

    def watched(images: Tensor, cameras: Cameras, index: Tensor | None = None):
        seen.append(images)
        return PerfectModel.reconstruct(model, images, cameras, index)

    monkeypatch.setattr(model, "reconstruct", watched)
    sanity_battery(model, views, placement=JOINT)
    for number, images in enumerate(seen):
        assert torch.equal(images[0], views.context_images[2 * number // len(seen)])


@pytest.mark.parametrize("kind", ESTIMATORS)
@pytest.mark.parametrize("placement", [JOINT, CONTEXT_ONLY])
def test_the_battery_runs_for_every_model_that_estimates(kind, placement):
    views = clips([[0, 3, 6, 9]], [[0, 2]], [[1, 3]])
    results = sanity_battery(ESTIMATORS[kind](), views, placement=placement)
    skipped = left_out(views, placement=placement)
    assert {result.check for result in results} == CHECKS.keys() - skipped.keys()
    for result in results:
        assert torch.tensor([result.psnr_change, result.rotation_deg, result.centre_change]).isfinite().all()


def test_a_posed_model_has_only_the_nearest_pose_check():
    results = sanity_battery(lvsm(), two_clips(), placement=GIVEN)
    assert [result.check for result in results] == ["nearest_context_pose"] * 2
    assert left_out(two_clips(), placement=GIVEN).keys() == CHECKS.keys() - {"nearest_context_pose"}


@pytest.mark.parametrize(("views", "placement", "names"), [
    (two_clips(), JOINT, set()),
    (two_clips(), CONTEXT_ONLY, {"dropped_views"}),
    (clips([[0, 3]], [[0]], [[1]]), JOINT, {"shuffled_order", "dropped_views"}),
    (clips([[0, 3]], [[0]], [[0, 1]]), JOINT, {"shuffled_order", "nearest_context_pose"}),
    (clips([[0, 3, 6]], [[0, 1]], [[2, 1]]), JOINT, {"dropped_views"}),
])  # fmt: skip
def test_checks_that_do_not_apply_are_left_out_with_a_reason(views, placement, names):
    reasons = left_out(views, placement=placement)
    assert reasons.keys() == names
    assert all(reasons.values())
    done = {result.check for result in sanity_battery(PerfectModel(), views, placement=placement)}
    assert done == CHECKS.keys() - names


def test_renders_are_compared_with_clean_targets():
    views = two_clips()
    noisy = replace(views, images=(views.images + 0.1).clamp(0, 1), clean=views.images)
    clean, other = (sanity_battery(IndexModel(), clip, placement=JOINT) for clip in (views, noisy))
    assert [result.check for result in clean] == [result.check for result in other]
    assert clean != other


def test_a_placement_that_does_not_fit_is_an_error():
    with pytest.raises(InputError, match="'joint' does not fit LVSMEncoderDecoder"):
        sanity_battery(lvsm(), two_clips(), placement=JOINT)


def test_every_check_has_a_description():
    for name, check in CHECKS.items():
        assert name == check.name
        assert all(text.endswith(".") for text in (check.change, check.true_poses, check.shortcut))
