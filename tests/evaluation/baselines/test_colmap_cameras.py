"""COLMAP as a baseline: with a double of pycolmap, and with pycolmap itself on a synthetic room."""

import math
import sys
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from doubles import clips

from openrayzer.data.synthetic_rooms.scenes import FilmSettings, film
from openrayzer.evaluation.baselines.colmap_cameras import ColmapCameras
from openrayzer.evaluation.metrics.camera_metrics import pose_metrics
from openrayzer.interfaces import InputError
from openrayzer.types import Cameras, Views


class _Pose:
    def __init__(self, c2w: np.ndarray) -> None:
        self.c2w = c2w

    def inverse(self) -> "_Pose":
        return self

    def matrix(self) -> np.ndarray:
        return self.c2w[:3].numpy().astype(np.float64)


class Options:
    """Options of any kind; ``sift`` and ``mapper`` have options of their own."""

    def __getattr__(self, name: str) -> Any:
        value = Options() if name in ("sift", "mapper") else None
        setattr(self, name, value)
        return value


class FakeColmap:
    """Registers given views of a clip at their true cameras, first by the usual and then by the lower thresholds."""

    CameraMode = SimpleNamespace(SINGLE="single")
    Device = SimpleNamespace(cpu="cpu")
    ImageReaderOptions = FeatureExtractionOptions = FeatureMatchingOptions = IncrementalPipelineOptions = Options

    def __init__(self, views: Views, usual: list[list[int]], lower: list[list[int]]) -> None:
        self.views, self.models = views, {False: usual, True: lower}
        self.attempts: list[bool] = []
        self.logging = SimpleNamespace(minloglevel=0)

    def set_random_seed(self, seed: int) -> None:
        pass

    def extract_features(self, database, pictures, **options: Any) -> None:
        assert len(list(pictures.iterdir())) == self.views.images.shape[1]
        assert options["reader_options"].camera_model == "SIMPLE_PINHOLE"

    def match_exhaustive(self, database, **options: Any) -> None:
        assert self.logging.minloglevel > 0

    def incremental_mapping(self, database, pictures, folder, options: Options) -> dict[int, Any]:
        self.attempts.append(options.mapper.init_min_num_inliers is not None)
        return {number: self._model(views) for number, views in enumerate(self.models[self.attempts[-1]])}

    def _model(self, views: list[int]) -> Any:
        images = {
            view: SimpleNamespace(
                name=f"{view:06}.png",
                has_pose=True,
                camera=SimpleNamespace(params=[20.0, 12.0, 8.0]),
                cam_from_world=lambda view=view: _Pose(self.views.cameras.c2w[0, view]),
            )
            for view in views
        }
        return SimpleNamespace(images=images, num_reg_images=lambda: len(views))


@pytest.fixture
def views() -> Views:
    return clips([[0, 1, 2, 3, 4]], [[0, 2, 4]], [[1, 3]])


def baseline_with(fake: FakeColmap) -> ColmapCameras:
    baseline = ColmapCameras()
    baseline.pycolmap = fake  # type: ignore[assignment]
    return baseline


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pycolmap", SimpleNamespace())


def test_without_pycolmap_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "pycolmap", None)
    with pytest.raises(InputError, match=r"the baseline 'colmap' needs pycolmap: pip install 'openrayzer\[colmap\]'"):
        ColmapCameras()


def test_if_all_views_are_registered_there_is_one_attempt(views: Views, installed: None):
    fake = FakeColmap(views, usual=[[0, 1], [0, 1, 2, 3, 4]], lower=[])
    (result,) = baseline_with(fake).measure(views)
    assert fake.attempts == [False]
    assert (result.numbers["scenes_registered"], result.numbers["views_registered"]) == (1.0, 1.0)
    assert result.poses["colmap"]["rpa@5"] == result.poses["colmap_registered"]["rpa@5"] == 1.0
    assert result.poses["colmap"]["focal_error"] == pytest.approx(abs(20 / 24 / 0.8 - 1), abs=1e-6)
    assert fake.logging.minloglevel == 0


def test_pairs_with_an_unregistered_view_count_as_errors(views: Views, installed: None):
    fake = FakeColmap(views, usual=[[1, 3]], lower=[[0, 1, 3], [2]])
    (result,) = baseline_with(fake).measure(views)
    assert fake.attempts == [False, True]
    assert result.numbers["scenes_registered"] == 0
    assert result.numbers["views_registered"] == pytest.approx(3 / 5)
    assert result.poses["colmap"]["rpa@5"] == pytest.approx(3 / 10)  # 3 of 10 pairs
    assert result.poses["colmap_registered"]["rpa@5"] == 1.0
    assert math.isnan(result.poses["colmap"]["focal_error"])


def test_the_attempt_with_more_views_counts(views: Views, installed: None):
    fake = FakeColmap(views, usual=[[0, 1, 2, 3]], lower=[[0, 1]])
    (result,) = baseline_with(fake).measure(views)
    assert result.numbers["views_registered"] == pytest.approx(4 / 5)


def test_a_clip_that_is_not_registered_has_no_correct_pair(views: Views, installed: None):
    (result,) = baseline_with(FakeColmap(views, usual=[], lower=[])).measure(views)
    assert result.numbers["views_registered"] == 0
    assert result.poses["colmap"]["rra@5"] == result.poses["colmap"]["auc@30"] == 0
    assert math.isnan(result.poses["colmap_registered"]["rra@5"])


def test_pycolmap_finds_the_cameras_of_a_room():
    pytest.importorskip("pycolmap")
    settings = FilmSettings(
        num_train=1, num_test=1, num_frames=5, image_size=(96, 128), motion=1.0, seed=0, exposure=0.0,
        motions=("sideways",),
    )  # fmt: skip
    scene = film(settings, 0)
    pixels = [cv2.imdecode(np.frombuffer(image, np.uint8), cv2.IMREAD_COLOR)[..., ::-1] for image in scene.images]
    images = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2) / 255
    baseline = ColmapCameras()
    cameras = baseline.cameras(images)
    rows = torch.from_numpy(np.asarray(scene.cameras, np.float32))
    w2c = torch.eye(4).repeat(len(rows), 1, 1)
    w2c[:, :3] = rows[:, 6:].unflatten(1, (3, 4))
    metrics = pose_metrics(cameras, Cameras(w2c.inverse()[None], rows[None, :, :4]))
    assert metrics["rra@5"] >= 0.8
    assert metrics["rpa@30"] >= 0.8
    assert torch.equal(baseline.cameras(images).c2w, cameras.c2w)


@pytest.mark.parametrize("images", [torch.zeros(3, 3, 32, 32), torch.full((1, 3, 32, 32), 0.5)], ids=["black", "one"])
def test_pycolmap_registers_no_view_of_images_without_features(images: torch.Tensor):
    pytest.importorskip("pycolmap")
    assert ColmapCameras().cameras(images).c2w.isnan().all()
