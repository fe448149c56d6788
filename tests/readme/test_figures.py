"""Figures on the pages that are the same on every machine: free baselines, numbers of weights."""

import json
import re
from pathlib import Path
from statistics import fmean

import pytest
import torch

from openrayzer.composer import load_experiment
from openrayzer.data.chunk_files.format import write_chunk, write_index
from openrayzer.data.loading.held_out_clips import evaluation_views
from openrayzer.data.synthetic_rooms.scenes import FilmSettings, film
from openrayzer.evaluation.metrics.image_baselines import mean_context, nearest_context
from openrayzer.evaluation.metrics.image_metrics import psnr
from openrayzer.interfaces import DATASETS

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
EXPERIMENTS = (ROOT / "experiments/README.md").read_text(encoding="utf-8")
EVALUATION = (ROOT / "docs/evaluation.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def free_baselines(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Mean PSNR in dB of each free baseline on the demo's held-out rooms, with two decimals."""
    root = tmp_path_factory.mktemp("rooms")
    file = ROOT / "experiments/rayzer_demo.json"
    rooms = json.loads(file.read_text())["data"]["test"][0]["dataset"]
    made = DATASETS["synthetic"](root=root / "unused", image_size=tuple(rooms["image_size"])).settings
    settings = FilmSettings(made.num_train, made.num_test, made.num_frames, made.image_size, made.motion, made.seed)
    (root / "test").mkdir()
    scenes = [film(settings, number) for number in settings.rooms("test")]
    write_chunk(root / "test/000000.torch", scenes)
    write_index(root / "test", {scene.key: "000000.torch" for scene in scenes})
    chunks = json.dumps([{"dataset": {"type": "chunks", "root": str(root), "split": "test"}}])
    experiment = load_experiment(file, overrides=[f"data.test={chunks}", "data.workers=0"]).build()
    values: dict[str, list[float]] = {"nearest": [], "mean": []}
    for views in evaluation_views(experiment.data, experiment.evaluation, rank=0, world_size=1):
        for name, images in (("nearest", nearest_context(views)), ("mean", mean_context(views))):
            values[name] += psnr(images, views.target_images).mean(dim=1).tolist()
    return {name: f"{fmean(column):.2f}" for name, column in values.items()}


def test_the_free_baselines_of_the_demo_are_those_on_the_pages(free_baselines: dict[str, str]):
    nearest, mean = free_baselines["nearest"], free_baselines["mean"]
    assert f"| nearest context view | {nearest} dB |" in README
    assert f"| mean of the context views | {mean} dB |" in README
    columns = re.findall(r"^\| \d+ \| [\d.]+ \| [\d.]+ \| ([\d.]+) \| ([\d.]+) \|$", EXPERIMENTS, flags=re.MULTILINE)
    assert columns
    assert set(columns) == {(nearest, mean)}
    assert re.search(rf"`nearest_context` \| {nearest} ", EVALUATION)
    assert re.search(rf"`mean_context` \| {mean} ", EVALUATION)


def test_the_numbers_of_weights_are_those_of_the_experiments():
    rows = re.findall(r"^\| `(\w+\.json)` \| ([\d.]+) M", EXPERIMENTS, flags=re.MULTILINE)
    written = dict(rows)
    assert len(written) == len(list((ROOT / "experiments").glob("*.json")))
    assert {name: f"{_weights(name) / 1e6:.1f}" for name in written} == written


def _weights(name: str) -> int:
    with torch.device("meta"):
        model = load_experiment(ROOT / "experiments" / name).build().model
    return sum(weight.numel() for weight in model.parameters())
