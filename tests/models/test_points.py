"""A model without tokens goes through everything that a user does with a model."""

import json
import runpy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

import openrayzer
from openrayzer.composer import load_experiment
from openrayzer.data.sources.synthetic import SyntheticRooms
from openrayzer.evaluation import evaluate as evaluation
from openrayzer.evaluation.request import EvaluationRequest
from openrayzer.machine.distributed import Process
from openrayzer.video.making import VideoRequest, make_video
from openrayzer.weights.export import export_weights

ROOT = Path(__file__).parents[2]
EXPERIMENT = Path(__file__).with_name("points.json")
ROOMS = {"num_train": 4, "num_test": 3, "num_frames": 6, "image_size": (24, 32)}


def lines(run: Path, split: str) -> list[dict]:
    every = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line for line in every if line["split"] == split]


@pytest.fixture(scope="session")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the run that several tests look at."""
    return tmp_path_factory.mktemp("points") / "run"


@pytest.fixture
def run(kept: Path, train_file: Callable[..., int], rooms: None) -> Path:
    """A run of four steps with ZeRO stage 2; the first test that needs it trains it."""
    if not kept.exists():
        assert train_file(EXPERIMENT, kept) == 0
    return kept


@pytest.mark.parametrize("stage", [1, 3])
def test_every_zero_stage_trains_alike_and_logs_the_extra_loss_by_name(
    run: Path, train_file: Callable[..., int], tmp_path: Path, stage: int
):
    config = json.loads((ROOT / "ds_configs/zero2_fp32.json").read_text())
    config["zero_optimization"]["stage"] = stage
    (tmp_path / "stage.json").write_text(json.dumps(config))
    changes = ["train.steps=2", "train.sample_every=0", "data.test=[]", f"deepspeed={tmp_path / 'stage.json'}"]
    assert train_file(EXPERIMENT, tmp_path / "run", *changes) == 0
    for line, expected in zip(lines(tmp_path / "run", "train"), lines(run, "train")[:2], strict=True):
        for name in ("loss", "mse", "opacity"):
            assert line[name] == pytest.approx(expected[name], rel=1e-5), name
        assert line["loss"] == pytest.approx(line["mse"] + line["opacity"])


def test_training_evaluates_and_draws_the_maps_beside_the_samples(run: Path):
    assert [line["step"] for line in lines(run, "test")] == [4]
    (picture,) = (run / "samples").glob("*.png")
    tiles = 3 + 2 * (2 + 2)  # three contexts; two targets with their prediction, depth and opacity
    with Image.open(picture) as drawn:
        assert drawn.width >= tiles * 96


def test_it_is_evaluated_in_every_placement_with_pictures_of_its_maps(run: Path, tmp_path: Path):
    request = EvaluationRequest(run=str(run), output=tmp_path / "out", pictures=1, baselines=())
    metrics = evaluation.evaluate(request, Process(0, 0, 1, torch.device("cpu")))
    assert metrics["scenes"]["evaluated"] == 3
    assert {"joint", "context_only"} <= metrics["summary"].keys()
    assert "opacity" in (tmp_path / "out" / "report.html").read_text()


def test_it_renders_a_video(run: Path, tmp_path: Path):
    pytest.importorskip("av")
    rooms = SyntheticRooms(root="rooms", **ROOMS)
    rooms.open()
    (tmp_path / "photos").mkdir()
    for number, image in enumerate(rooms.read(0, [0, 2, 4]).images):
        Image.fromarray(image).save(tmp_path / "photos" / f"{number}.png")
    request = VideoRequest(run=str(run), images=tmp_path / "photos", output=tmp_path / "out.mp4", fps=4.0)
    made = make_video(request, say=lambda note: None)
    assert made.num_frames > 3
    assert (tmp_path / "out.mp4").stat().st_size > 0


def test_it_is_planned(rooms: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    monkeypatch.setattr("sys.argv", ["check_experiment.py", str(EXPERIMENT), "--device", "cpu"])
    with pytest.raises(SystemExit) as left:
        runpy.run_path(str(ROOT / "tools/check_experiment.py"), run_name="__main__")
    told = capsys.readouterr().out
    assert not left.value.code, told
    assert "parameters" in told


def test_it_is_exported_and_loaded_again(run: Path, tmp_path: Path):
    export_weights(run, tmp_path / "published")
    ours, theirs = openrayzer.load_model(run).state_dict(), openrayzer.load_model(tmp_path / "published").state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_sizes_that_no_cell_divides_are_refused_before_anything_is_built():
    with pytest.raises(ValueError, match=r"data.image_size: images of 24 x 30 pixels.*multiples of 4"):
        load_experiment(EXPERIMENT, overrides=["data.image_size=[24, 30]"]).build()
