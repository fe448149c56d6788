"""Errors in an evaluation, a sample picture or a logger lose no step: the checkpoint is there before they happen."""

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
import toy
from launching import ROOT
from ranks import Run
from test_failures import faulty
from test_runs import records, timeless, weights

from openrayzer.interfaces import InputError
from openrayzer.training import run_outputs
from openrayzer.training.checkpointing import publishing
from openrayzer.weights.checkpoints.manifest import damage_of, read_manifest

pytestmark = [pytest.mark.filterwarnings("ignore::FutureWarning"), pytest.mark.filterwarnings("ignore::UserWarning")]

Train = Callable[..., int]
EVALUATED = {"test": True, "evaluate_every": 2, "best_metric": "psnr"}


@contextmanager
def rendering_fails(first: int) -> Iterator[None]:
    """Outside of training, the model raises an error from its rendering ``first`` on, counted from 0."""
    render, calls = toy.ToyModel.render, [0]

    def failing(model: toy.ToyModel, *arguments: object) -> torch.Tensor:
        calls[0] += not model.training
        if not model.training and calls[0] > first:
            raise RuntimeError("this model cannot be evaluated")
        return render(model, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(toy.ToyModel, "render", failing)
        yield


def newest(folder: Path) -> Path:
    return folder / "checkpoints" / (folder / "checkpoints/latest").read_text()


def test_an_error_in_the_last_evaluation_loses_no_step(train: Train, tmp_path: Path):
    with rendering_fails(0), pytest.raises(RuntimeError, match="this model cannot be evaluated"):
        train(tmp_path, steps=3, test=True)
    checkpoint = newest(tmp_path)
    assert checkpoint.name == "step_00000003"
    assert not damage_of(checkpoint)
    assert read_manifest(checkpoint)["metrics"] == {}


def test_the_same_command_repeats_an_evaluation_that_failed(train: Train, tmp_path: Path):
    setup = {"steps": 5, "checkpoint_every": 2, **EVALUATED}
    train(tmp_path / "straight", **setup)
    for first in (0, 7):  # in the evaluation of step 2, then in that of step 4
        with rendering_fails(first), pytest.raises(RuntimeError, match="cannot be evaluated"):
            train(tmp_path / "run", **setup)
    assert newest(tmp_path / "run").name == "step_00000004"
    assert train(tmp_path / "run", **setup) == 0
    for split in ("train", "test"):
        assert timeless(records(tmp_path / "run", split)) == timeless(records(tmp_path / "straight", split))
    for name in ("step_00000002", "step_00000004", "step_00000005"):
        manifests = [read_manifest(tmp_path / run / "checkpoints" / name) for run in ("straight", "run")]
        assert manifests[0]["metrics"] == manifests[1]["metrics"] != {}
    assert (tmp_path / "run/checkpoints/best").read_text() == (tmp_path / "straight/checkpoints/best").read_text()
    for name, value in weights(tmp_path / "straight", 5).items():
        assert torch.equal(value, weights(tmp_path / "run", 5)[name]), name


def test_an_error_in_an_evaluation_between_two_checkpoints_loses_no_step(train: Train, tmp_path: Path):
    with rendering_fails(7), pytest.raises(RuntimeError, match="cannot be evaluated"):
        train(tmp_path, steps=5, test=True, evaluate_every=2, ema_decay=0.5)  # of the average at step 2
    assert newest(tmp_path).name == "step_00000002"
    train(tmp_path / "straight", steps=2, ema_decay=0.5)
    for name, value in weights(tmp_path / "straight", 2).items():
        assert torch.equal(value, weights(tmp_path, 2)[name]), name  # the weights, not their average


def test_an_evaluation_is_repeated_if_the_manifest_lacks_its_metrics(train: Train, tmp_path: Path, monkeypatch):
    def fail(file: Path, text: str) -> None:
        if file.name == "manifest.json" and file.parent.name == "step_00000002":
            raise OSError(28, "No space left on device")
        replace(file, text)

    replace = publishing._replace
    with monkeypatch.context() as patch:
        patch.setattr(publishing, "_replace", fail)
        with pytest.raises(InputError, match=r"step_00000002 could not be written to its manifest.json.*No space left"):
            train(tmp_path, steps=3, checkpoint_every=2, **EVALUATED)
    assert not damage_of(newest(tmp_path))
    assert train(tmp_path, steps=3, checkpoint_every=2, **EVALUATED) == 0
    assert [record["step"] for record in records(tmp_path, "test")] == [2, 3]
    assert read_manifest(tmp_path / "checkpoints/step_00000002")["metrics"]["step"] == 2


def test_a_failed_evaluation_keeps_the_best_checkpoint(train: Train, tmp_path: Path):
    setup = {"steps": 4, "keep_checkpoints": 1, "checkpoint_every": 2, **EVALUATED}
    with rendering_fails(6), pytest.raises(RuntimeError, match="cannot be evaluated"):
        train(tmp_path, **setup)
    assert (tmp_path / "checkpoints/best").read_text() == "step_00000002"
    assert sorted(path.name for path in (tmp_path / "checkpoints").glob("step_*")) == ["step_00000002", "step_00000004"]


def test_a_sample_picture_that_cannot_be_drawn_is_a_warning(
    train: Train, tmp_path: Path, monkeypatch, caplog: pytest.LogCaptureFixture
):
    def fail(*arguments: object, **named: object) -> None:
        raise ValueError("no font")

    monkeypatch.setattr(run_outputs, "draw_samples", fail)
    assert train(tmp_path, steps=2, sample_every=1) == 0
    assert caplog.text.count("could not be drawn: ValueError: no font; training goes on") == 2
    assert newest(tmp_path).name == "step_00000002"


def test_an_error_of_the_model_in_a_sample_picture_loses_no_step(train: Train, tmp_path: Path):
    with rendering_fails(0), pytest.raises(RuntimeError, match="cannot be evaluated"):
        train(tmp_path, steps=3, sample_every=2)
    assert newest(tmp_path).name == "step_00000002"


def test_a_logger_that_fails_in_the_last_step_loses_nothing(train: Train, tmp_path: Path, monkeypatch, caplog):
    class Broken(run_outputs.Jsonl):
        def record(self, values: dict[str, object]) -> None:
            if values["step"] == 2:
                raise ConnectionError("no route to the server")
            super().record(values)

    monkeypatch.setattr(run_outputs, "Jsonl", Broken)
    with caplog.at_level(logging.WARNING):
        assert train(tmp_path, steps=2, test=True) == 0
    assert "logger Broken failed in record and is left out: ConnectionError: no route" in caplog.text
    assert read_manifest(newest(tmp_path))["metrics"]["step"] == 2


@pytest.mark.slow
def test_an_error_of_one_rank_in_the_last_evaluation_loses_no_step(start: Callable[..., Run], folder: Path):
    sign = folder / "evaluation_fails"
    sign.touch()
    tiny = json.loads((ROOT / "tests/training/tiny_rayzer.json").read_text())
    loss = [{"loss": {"type": "spoilt_evaluation", "rank": 1, "sign": str(sign)}}]
    exp = faulty(folder, loss=loss, data={"test": tiny["data"]["test"]})
    run = start("evaluation", "train.steps=3", "train.checkpoint_every=0", exp=exp)
    codes = run.wait(120)
    assert codes == (3, 1), run.output()
    assert "rank 1 failed: RuntimeError: this evaluation is spoilt" in run.output()
    assert newest(folder / "evaluation").name == "step_00000003"
    sign.unlink()
    again = start("evaluation", "train.steps=3", "train.checkpoint_every=0", exp=exp)
    assert again.wait() == (0, 0), again.output()
    assert [record["step"] for record in records(folder / "evaluation", "test")] == [3]
    assert read_manifest(newest(folder / "evaluation"))["metrics"]["step"] == 3
