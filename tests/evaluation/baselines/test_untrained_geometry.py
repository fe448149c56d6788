"""The untrained geometric model as a baseline: names, metrics, true cameras, weights."""

from dataclasses import replace
from pathlib import Path
from statistics import fmean

import cv2
import numpy as np
import pytest
import torch
from doubles import SIZE, PerfectModel, clips
from torch import Tensor

from openrayzer.data.synthetic_rooms.scenes import FilmSettings, film
from openrayzer.evaluation.baselines import choice
from openrayzer.evaluation.baselines.untrained_geometry import UntrainedGeometry, untrained_geometry
from openrayzer.evaluation.metrics.image_baselines import nearest_context
from openrayzer.evaluation.metrics.image_scores import ImageScores
from openrayzer.evaluation.results.printed_table import result_table
from openrayzer.evaluation.results.scene_result import SceneResult
from openrayzer.geometry.focus import extent_of
from openrayzer.interfaces import InputError, Model
from openrayzer.machine import FittingBatches
from openrayzer.models.token_scene import TokenScene
from openrayzer.types import Cameras, Views


@pytest.fixture
def views() -> Views:
    return clips([[0, 2, 4, 6, 8], [1, 3, 5, 7, 9]], [[0, 2, 4]] * 2, [[1, 3]] * 2)


class Sized(PerfectModel):
    """A model of images of any size: cameras on a line, and renders that are the first context view."""

    def estimate(self, images: Tensor, intrinsics: Tensor | None = None) -> Cameras:
        c2w = torch.eye(4).repeat(*images.shape[:2], 1, 1)
        c2w[..., 0, 3] = torch.arange(images.shape[1])
        return Cameras(c2w, torch.tensor([1.0, 1.0, 0.5, 0.5]).expand(*images.shape[:2], 4))

    def reconstruct(self, images: Tensor, cameras: Cameras, index: Tensor | None = None) -> TokenScene:
        size = (images.shape[-2], images.shape[-1])
        return TokenScene(images[:, 0].flatten(2), torch.zeros(len(images), 3, 2), image_size=size)

    def render(self, scene: TokenScene, cameras: Cameras) -> Tensor:
        image = scene.tokens.unflatten(2, scene.image_size)
        return image[:, None].expand(-1, cameras.num_views, -1, -1, -1)


def baseline(model: Model, *placements: str) -> UntrainedGeometry:
    scores = ImageScores(SIZE, metrics=("psnr",), device=torch.device("cpu"))
    return UntrainedGeometry(
        model, placements=placements, scores=scores, batches=FittingBatches(16, device=torch.device("cpu"))
    )


def test_methods_have_the_names_of_the_placements(views: Views):
    results = baseline(PerfectModel().eval(), "joint", "context_only").measure(views)
    assert len(results) == 2
    for result in results:
        assert list(result.images) == list(result.poses) == ["sfm_joint", "sfm_context_only"]
        assert list(result.images["sfm_joint"]) == ["psnr"]
        assert len(result.images["sfm_joint"]["psnr"]) == 2
        assert min(result.images["sfm_joint"]["psnr"]) > 40
        assert result.poses["sfm_context_only"]["rpa@5"] == 1.0
        assert result.numbers["seconds"] > 0


def test_given_poses_are_scaled_to_the_unit_of_the_solver(views: Views):
    seen = []

    class Recording(PerfectModel):
        def reconstruct(self, images: Tensor, cameras: Cameras, index: Tensor | None = None) -> TokenScene:
            seen.append(cameras)
            return super().reconstruct(images, cameras, index)

    model = Recording().eval()
    results = baseline(model, "given_poses").measure(views)
    assert [list(result.images) for result in results] == [["sfm_given_poses"]] * 2
    assert all(result.poses == {} for result in results)
    assert min(min(result.images["sfm_given_poses"]["psnr"]) for result in results) > 40
    (cameras,) = seen
    true = views.cameras.select(views.context)
    estimated = model.estimate(views.context_images)
    torch.testing.assert_close(extent_of(cameras.c2w).double(), extent_of(estimated.c2w), rtol=1e-3, atol=0)
    assert not torch.allclose(extent_of(cameras.c2w), extent_of(true.c2w), rtol=0.05)
    assert torch.equal(cameras.c2w[..., :3, :3], true.c2w[..., :3, :3])


def test_given_poses_need_two_context_views(views: Views):
    with pytest.raises(InputError, match="the plane sweep needs 2 context views or more"):
        baseline(PerfectModel().eval(), "given_poses").measure(replace(views, context=views.context[:, :1]))


def test_depth_maps_are_measured_where_the_true_depth_is_known(views: Views):
    true = torch.rand(2, 5, *SIZE) + 1
    true[1] = 0  # unknown

    class WithDepth(PerfectModel):
        def render_maps(self, scene: TokenScene, cameras: Cameras) -> dict[str, Tensor]:
            return {"depth": 2 * true[:1, views.target[0], None]}

    results = baseline(WithDepth().eval(), "joint").measure(replace(views, depth=true))
    assert results[0].depth["sfm_joint"]["depth_abs_rel"] == pytest.approx(0, abs=1e-6)
    assert results[1].depth == {}


def test_the_weights_are_always_the_same_and_no_generator_moves():
    torch.manual_seed(3)
    before = torch.get_rng_state()
    first = untrained_geometry()
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(4)
    second = untrained_geometry()
    assert not first.training
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def test_a_clip_that_the_baseline_refuses_keeps_its_result(views: Views):
    class Refusing(PerfectModel):
        def estimate(self, images: Tensor, intrinsics: Tensor | None = None) -> Cameras:
            raise InputError("too few views")

    results = [SceneResult(scene, number, [], [], {}) for number, scene in enumerate(views.scenes)]
    assert baseline(Refusing().eval(), "joint").add_to(results, views) == [
        "no baseline sfm for world 0, world 1: too few views"
    ]
    assert all(result.images == result.baselines == {} for result in results)


@pytest.mark.parametrize("names", [("smf",), ("none",)])
def test_an_unknown_baseline_is_an_error(names: tuple[str, ...]):
    with pytest.raises(InputError, match=r"no baseline named .*known: colmap, sfm"):
        opened(names)


def test_images_that_are_too_small_leave_the_baseline_out():
    baselines, (note,) = opened(("sfm",), size=(8, 64))
    assert baselines == ()
    assert note.startswith("no baseline sfm: images of 8 x 64 pixels are too small")


def test_the_untrained_model_renders_a_room_better_than_its_nearest_context_view():
    settings = FilmSettings(
        num_train=1, num_test=1, num_frames=5, image_size=(64, 64), motion=1.0, seed=0, exposure=0.0,
        motions=("sideways",),
    )  # fmt: skip
    pixels = [cv2.imdecode(np.frombuffer(image, np.uint8), cv2.IMREAD_COLOR) for image in film(settings, 0).images]
    images = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2)[None] / 255
    views = Views(images, torch.arange(5)[None], torch.tensor([[0, 2, 4]]), torch.tensor([[1, 3]]), scenes=("room",))
    scores = ImageScores((64, 64), metrics=("psnr",), device=torch.device("cpu"))
    measured = UntrainedGeometry(
        untrained_geometry(), placements=("joint",), scores=scores,
        batches=FittingBatches(16, device=torch.device("cpu")),
    )  # fmt: skip
    (result,) = measured(views)
    nearest = scores(nearest_context(views), views.target_images)["psnr"]
    assert fmean(result.images["sfm_joint"]["psnr"]) > float(nearest.mean()) + 3
    assert result.poses == {}
    assert measured.seconds > result.numbers["seconds"] > 0


def test_a_number_of_views_that_a_baseline_refuses_is_left_out(make_run, evaluate, monkeypatch: pytest.MonkeyPatch):
    model = {
        "type": "lvsm_decoder_only", "position_encoding": {"type": "none"}, "fusion": {"type": "pixel"},
        "renderer": {"type": "joint", "depth": 1},
    }  # fmt: skip
    monkeypatch.setattr(choice, "untrained_geometry", lambda: Sized().eval())
    metrics = evaluate(make_run(model), baselines=("sfm",), sweep=(1, 2), max_scenes=1, pictures=0)
    assert [list(entry) for entry in metrics["views_sweep"]] == [
        ["num_context", "scenes", "not_finite", "given_poses", "nearest_context", "mean_context"],
        ["num_context", "scenes", "not_finite", "given_poses", "nearest_context", "mean_context", "sfm_given_poses"],
    ]
    (note,) = [problem for problem in metrics["scenes"]["problems"] if "views sweep" in problem]
    assert note.startswith("views sweep: no sfm from 1 context views: with true cameras, the plane sweep needs 2")


def opened(names: tuple[str, ...], size: tuple[int, int] = (64, 64)):
    cpu = torch.device("cpu")
    return choice.open_baselines(
        names,
        image_size=size,
        placements=("joint",),
        scores=ImageScores(SIZE, metrics=("psnr",), device=cpu),
        device=cpu,
        batches=FittingBatches(16, device=cpu),
    )


def test_an_evaluation_shows_the_untrained_model_beside_a_learned_one(
    rayzer: Path, evaluate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(choice, "untrained_geometry", lambda: Sized().eval())
    metrics = evaluate(rayzer, baselines=("sfm",), sweep=(2, 3))
    assert list(metrics["summary"])[-2:] == ["sfm_joint", "sfm_context_only"]
    assert metrics["summary"]["sfm_joint"]["psnr"]["scenes"] == 3
    assert {"sfm_joint", "sfm_context_only"} <= metrics["poses"].keys()
    _, swept = metrics["views_sweep"]
    assert swept["sfm_joint"]["psnr"] == pytest.approx(metrics["summary"]["sfm_joint"]["psnr"]["mean"], abs=1e-4)
    assert "rpa@15" in swept["sfm_joint"]
    assert metrics["baselines"]["sfm"]["scenes"] == 3
    assert metrics["seconds"]["sfm"]["total"] >= 3 * metrics["seconds"]["sfm"]["cameras_of_a_scene"]
    difference = metrics["against_baselines"]["joint"]["psnr"]["sfm_joint"]
    means = [metrics["summary"][method]["psnr"]["mean"] for method in ("joint", "sfm_joint")]
    assert difference["mean"] == pytest.approx(means[0] - means[1])
    lines = result_table(metrics, tmp_path).splitlines()
    assert any(line.startswith("joint, psnr: ") and "sfm_joint (" in line for line in lines)
    assert any(line.startswith("sfm: 3 scenes, ") for line in lines)
    page = (tmp_path / "out/report.html").read_text(encoding="utf-8")
    assert "Untrained geometry, joint" in page
    assert "Joint minus baseline" in page
