"""A run is trained, exported, loaded and trained further."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import openrayzer
from openrayzer.composer import load_experiment
from openrayzer.weights.export import export_weights

pytestmark = [pytest.mark.filterwarnings("ignore::FutureWarning"), pytest.mark.filterwarnings("ignore::UserWarning")]

TINY = Path(__file__).with_name("tiny_rayzer.json")


def first_loss(run: Path) -> float:
    return json.loads((run / "metrics.jsonl").read_text().splitlines()[0])["loss"]


def test_an_exported_run_renders_and_trains_on_like_the_run_itself(train_file: Callable[..., int], tmp_path: Path):
    run, output = tmp_path / "run", tmp_path / "tiny"
    roots = [f"data.{split}[0].dataset.root={tmp_path / 'rooms'}" for split in ("train", "test")]
    changes = [*roots, "train.steps=3", "data.workers=0", "train.evaluate_every=3", "train.sample_every=0"]
    assert train_file(TINY, run, *changes) == 0
    assert export_weights(run, output, license="mit").notes == ()
    ours, theirs = openrayzer.load_model(run), openrayzer.load_model(output)
    images = torch.rand(1, 4, 3, 24, 32)
    pictures = [model.render(model.reconstruct(images, cameras := model.estimate(images)), cameras)
                for model in (ours, theirs)]  # fmt: skip
    assert torch.equal(*pictures)
    config = output / "config.json"
    assert load_experiment(config).resolved["model"] == load_experiment(run / "experiment.json").resolved["model"]
    measured = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()][-1]
    assert f"| this model | {measured['psnr']:.2f} |" in (output / "README.md").read_text()

    def go_on(experiment: Path, name: str, weights: Path) -> float:
        train_file(experiment, tmp_path / name, f"train.initial_weights={weights}", "train.steps=1", "train.seed=5")
        return first_loss(tmp_path / name)

    original = go_on(run / "experiment.json", "original", run)
    assert original == go_on(config, "exported", output)
    assert original == go_on(config, "file", output / "model.safetensors")
    assert original != first_loss(run)
