"""Transfer: true poses can drive another scene, and shortcuts cannot."""

from dataclasses import replace

import pytest
import torch
from doubles import BlindModel, BrokenModel, CarryingModel, IndexModel, PerfectModel, clips, read, true_path
from small_models import ESTIMATORS, lvsm
from torch import Tensor

from openrayzer.evaluation.metrics.camera_metrics import accuracy_area
from openrayzer.evaluation.placements import PLACEMENTS
from openrayzer.evaluation.trials.transfer import histogram_area, trajectory_errors, transfer, transferred_views
from openrayzer.interfaces import InputError
from openrayzer.types import Cameras, Views

JOINT, CONTEXT_ONLY = PLACEMENTS["joint"], PLACEMENTS["context_only"]


@pytest.fixture(autouse=True)
def without_gradients():
    with torch.no_grad():
        yield


@pytest.fixture
def pair() -> tuple[Views, Views]:
    """Two clips, and the same clips in the other order."""
    views = clips([[0, 3, 6, 9, 12, 15, 18]] * 2, [[0, 3, 6]] * 2, [[1, 2, 4, 5]] * 2)
    exchanged = {name: getattr(views, name).flip(0) for name in ("images", "frames", "context", "target")}
    assert views.cameras is not None
    cameras = Cameras(views.cameras.c2w.flip(0), views.cameras.intrinsics.flip(0))
    return views, replace(views, cameras=cameras, scenes=views.scenes[::-1], **exchanged)


def oracle(images: Tensor) -> Cameras:
    return PerfectModel().estimate(images)


@pytest.mark.parametrize("placement", [JOINT, CONTEXT_ONLY])
def test_true_poses_transfer(pair, placement):
    results = transfer(PerfectModel(), *pair, placement=placement)
    assert [(result.driver, result.scene) for result in results] == [("world 0", "world 1"), ("world 1", "world 0")]
    for result in results:
        for name in ("rotation@10", "translation@10", "like_scene"):
            assert result.metrics[name] == 1, name
        assert result.metrics["auc@20"] == pytest.approx(1)
        assert result.undriven["auc@20"] < 0.8  # the two paths differ


def test_a_posed_model_takes_the_true_cameras_of_both(pair):
    class Posed(PerfectModel):
        posed = True

    results = transfer(Posed(), *pair, placement=PLACEMENTS["given_poses"], oracle=oracle)
    assert [result.metrics["auc@20"] for result in results] == [pytest.approx(1)] * 2


def test_the_pose_relative_to_the_middle_context_is_transferred(pair):
    class Truthful(PerfectModel):
        """True cameras in the frame of the world."""

        def estimate(self, images: Tensor, intrinsics: Tensor | None = None) -> Cameras:
            cameras = super().estimate(images)
            return Cameras(read(images)[0], cameras.intrinsics)

    _, cameras = transferred_views(Truthful(), *pair, placement=JOINT)
    first, second = (true_path(pair[0].frames[0], world) for world in (0, 1))
    expected = second[3] @ torch.linalg.inv(first[3]) @ first[[1, 2, 4, 5]]
    torch.testing.assert_close(cameras.c2w[0], expected, atol=1e-4, rtol=0)


def test_poses_that_are_positions_among_the_contexts_do_not_transfer(pair):
    for result in transfer(IndexModel(), *pair, placement=JOINT, oracle=oracle):
        assert result.metrics["auc@20"] < 0.8
        assert result.metrics["like_scene"] == 1  # the renders show the right scene


def test_pixels_in_poses_show_the_driver(pair):
    def deceived(images: Tensor) -> Cameras:
        """An oracle that returns the wanted motion for any images."""
        return oracle(pair[0].target_images)

    for result in transfer(CarryingModel(), *pair, placement=JOINT, oracle=deceived):
        assert result.metrics["auc@20"] == pytest.approx(1)
        assert result.metrics["like_scene"] == 0


def test_what_is_not_finite_is_never_alike(pair):
    for result in transfer(BrokenModel(), *pair, placement=JOINT):
        assert not torch.tensor(result.metrics.pop("trajectory_error")).isfinite()
        assert result.metrics == dict.fromkeys(result.metrics, 0)


def test_without_motion_the_scores_are_zero(pair):
    def looks(images: Tensor) -> Cameras:
        """A pose for each image, equal for equal images."""
        mean = images.double().mean(dim=(3, 4))
        c2w = torch.eye(4, dtype=torch.float64).repeat(*mean.shape[:2], 1, 1)
        c2w[..., :3, 3] = mean
        return Cameras(c2w, mean.new_ones(*mean.shape[:2], 4))

    for result in transfer(BlindModel(), *pair, placement=JOINT, oracle=looks):
        assert result.metrics["translation@30"] == 0
        assert result.metrics["auc@30"] == 0


@pytest.mark.parametrize("kind", ESTIMATORS)
@pytest.mark.parametrize("placement", [JOINT, CONTEXT_ONLY])
def test_transfer_runs_for_every_model_that_estimates(pair, kind, placement):
    torch.manual_seed(0)
    model = ESTIMATORS[kind]()
    for result in transfer(model, *pair, placement=placement):
        for scores in (result.metrics, result.undriven):
            assert all(0 <= value <= 1 for value in scores.values())
    alone = [_one(views) for views in pair]
    torch.testing.assert_close(
        transferred_views(model, *alone, placement=placement)[0],
        transferred_views(model, *pair, placement=placement)[0][:1],
        atol=1e-4,
        rtol=1e-4,
    )


def test_histogram_area_by_hand():
    # 3 bins of 2/3 degrees on [0, 2] with one error each, and one error beyond: cumulative shares 1/4, 2/4, 3/4.
    errors = torch.tensor([0.1, 0.7, 2.0, 2.1], dtype=torch.float64)
    assert histogram_area(errors, 2) == pytest.approx((1 + 2 + 3) / 12)
    assert histogram_area(torch.zeros(5, dtype=torch.float64), 30) == 1
    assert histogram_area(torch.tensor([torch.nan, 0.0], dtype=torch.float64), 30) == 0.5


def test_intrinsics_are_those_of_the_scene(pair):
    class Posed(PerfectModel):
        posed = True

    drivers, scenes = pair
    lens = 2 * scenes.cameras.intrinsics
    scenes = replace(scenes, cameras=Cameras(scenes.cameras.c2w, lens))
    _, cameras = transferred_views(Posed(), drivers, scenes, placement=PLACEMENTS["given_poses"])
    assert torch.equal(cameras.intrinsics, lens[:, :1].expand(-1, 4, -1))


@pytest.mark.parametrize("limit", [5, 20, 30])
def test_histogram_area_differs_from_whole_degrees_by_a_bin(limit):
    for error in torch.arange(0, limit + 1, 0.01, dtype=torch.float64):
        difference = histogram_area(error[None], limit) - accuracy_area(error[None], limit)
        assert abs(difference) <= 1 / (limit + 1) + 1e-9


@pytest.mark.parametrize(("change", "message"), [
    (lambda views: replace(views, target=views.target[:, :3]), r"\(2, 4\) and \(2, 3\)"),
    (lambda views: replace(views, images=views.images[..., :16]), r"one size: got \(16, 24\) and \(16, 16\)"),
])  # fmt: skip
def test_batches_that_do_not_fit_are_an_error(pair, change, message):
    with pytest.raises(InputError, match=message):
        transfer(PerfectModel(), pair[0], change(pair[1]), placement=JOINT)


def test_one_target_has_no_motion(pair):
    single = [replace(views, target=views.target[:, :1]) for views in pair]
    with pytest.raises(InputError, match="2 or more"):
        transfer(PerfectModel(), *single, placement=JOINT)


def test_a_posed_model_needs_an_oracle(pair):
    with pytest.raises(InputError, match=r"LVSMEncoderDecoder estimates no cameras and cannot judge.*give an oracle"):
        transfer(lvsm(), *pair, placement=PLACEMENTS["given_poses"])


def _one(views: Views) -> Views:
    tensors = {name: getattr(views, name)[:1] for name in ("images", "frames", "context", "target")}
    assert views.cameras is not None
    cameras = Cameras(views.cameras.c2w[:1], views.cameras.intrinsics[:1])
    return replace(views, scenes=views.scenes[:1], cameras=cameras, **tensors)


def test_the_trajectory_error_ignores_frame_and_scale_and_measures_the_rest_from_the_middle_view():
    wanted = torch.eye(4, dtype=torch.float64).repeat(1, 5, 1, 1)
    wanted[0, :, 0, 3] = torch.tensor([-2.0, -1, 0, 1, 2])
    moved = wanted.clone()
    moved[..., :3, 3] *= 7
    frame = torch.eye(4, dtype=torch.float64)
    frame[:3, :3] = torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    frame[:3, 3] = 5
    assert trajectory_errors(frame @ moved, wanted).item() == pytest.approx(0, abs=1e-12)
    sideways = wanted.clone()
    sideways[..., :2, 3] = sideways[..., [1, 0], 3]  # at right angles, so that the best scale is 0
    assert trajectory_errors(sideways, wanted).item() == pytest.approx(6 / 15)
    still = torch.eye(4, dtype=torch.float64).repeat(1, 5, 1, 1)
    assert trajectory_errors(still, wanted).item() == pytest.approx(6 / 15)
