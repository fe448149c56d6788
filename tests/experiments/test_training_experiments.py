"""Experiments train: the demos for twenty steps, the full-size experiments for a few."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.io import savemat

import openrayzer
from openrayzer.composer import construct, load_experiment
from openrayzer.machine.random_state import seed_all

ROOT = Path(__file__).parents[2]
OTHER_DATA = ("_little", "_medium", "_large")
"""Ends of the names of experiments that differ from another one in their data alone."""
FULL_SIZE = sorted(
    name
    for name in (path.stem for path in (ROOT / "experiments").glob("*.json"))
    if not name.endswith(("_demo", *OTHER_DATA))
)
VGG19 = {
    0: (3, 64), 2: (64, 64), 5: (64, 128), 7: (128, 128), 10: (128, 256), 12: (256, 256), 14: (256, 256),
    16: (256, 256), 19: (256, 512), 21: (512, 512), 23: (512, 512), 25: (512, 512), 28: (512, 512), 30: (512, 512),
}  # fmt: skip
"""Input and output channels of the convolutions, by the number of the layer."""


def train(name: str, folder: Path, changes: list[str], *, timeout: float) -> Path:
    """Run tools/train.py in ``folder``; returns the run folder."""
    environment = {key: value for key, value in os.environ.items() if key not in ("RANK", "LOCAL_RANK", "WORLD_SIZE")}
    command = [sys.executable, str(ROOT / "tools/train.py"), "--exp", str(ROOT / f"experiments/{name}.json")]
    done = subprocess.run(
        [*command, "--set", *changes, "--output", "run"],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=timeout,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder / "run"


def records(run: Path, split: str) -> list[dict]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return [line for line in lines if line["split"] == split]


@pytest.mark.parametrize(
    "name",
    ["rayzer_demo", *(pytest.param(name, marks=pytest.mark.slow) for name in ("rayzer_latent_demo", "rayder_demo"))],
)
def test_the_demo_learns_within_twenty_steps(name: str, tmp_path: Path):
    small = ("num_train=3", "num_test=2", "num_frames=10")
    changes = [f"data.{split}[0].dataset.{change}" for split in ("train", "test") for change in small]
    changes += ["train.steps=20", "train.batch_size=2", "train.schedule.warmup_steps=4", "train.log_every=1"]
    run = train(name, tmp_path, [*changes, "data.workers=0"], timeout=300)
    losses = [line["loss"] for line in records(run, "train")]
    assert len(losses) == 20
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])
    (test,) = records(run, "test")
    assert test["evaluated"] == test["expected"] == 2
    assert (run / "checkpoints/latest").read_text() == "step_00000020"


@pytest.fixture(scope="module")
def matconvnet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file in the format of MatConvNet's VGG-19 with random weights."""
    generator = np.random.default_rng(0)
    layers = np.empty((1, 43), dtype=object)
    for index in range(43):
        layers[0, index] = {"name": f"layer{index}"}
    for index, (inputs, outputs) in VGG19.items():
        weights = np.empty((1, 2), dtype=object)
        weights[0, 0] = generator.normal(scale=(2 / (9 * inputs)) ** 0.5, size=(3, 3, inputs, outputs))
        weights[0, 1] = np.zeros((1, outputs))
        layers[0, index]["weights"] = weights
    path = tmp_path_factory.mktemp("weights") / "imagenet-vgg-verydeep-19.mat"
    savemat(path, {"layers": layers})
    return path


def few_small_views(name: str) -> list[str]:
    """Overrides for one scene with 3 + 2 views of 64 x 64 pixels; the model keeps its full size."""
    room = {
        "type": "synthetic",
        "root": "rooms",
        "num_train": 1,
        "num_test": 1,
        "num_frames": 9,
        "image_size": [32, 32],
    }
    changes = [f"data.train={json.dumps([{'dataset': room}])}", "data.test=[]", "data.workers=0"]
    changes += ["data.image_size=[64, 64]", "train.steps=1", "train.batch_size=1", "train.accumulation=1"]
    values = {"num_context": 3, "num_target": 2, "min_frame_distance": 4, "max_frame_distance": 8}
    if name.startswith(("uplvsm", "ptlvsm")):  # patches of 14; without downloads and the run that comes before
        changes += ["data.image_size=[56, 56]", "model.tokenizer.pretrained=false", "train.initial_weights=null"]
    if "rayder" in name:
        values = {"num_views": 4, "min_frame_distance": 4, "max_frame_distance": 8}
    if name.startswith("erayzer"):  # every weight moves in the first step
        changes.append("train.focal_detached_steps=0")
    if "paper" in name or name.startswith("erayzer"):
        values = {"start_min_frame_distance": 4, "start_max_frame_distance": 8} | values
    return [*changes, *(f"data.view_sampler.{key}={value}" for key, value in values.items())]


@pytest.mark.slow
@pytest.mark.parametrize("name", FULL_SIZE)
def test_one_step_at_full_size_moves_every_weight(name: str, tmp_path: Path, matconvnet: Path):
    """One experiment runs the perceptual loss, because all have the same.

    RayDer's blocks start as the identity and its colours at zero, and some layers of the geometric models start at
    zero, so several steps pass before every weight moves.
    """
    steps = 6 if "rayder" in name else 3 if "geometric" in name else 1
    changes = [*few_small_views(name), f"train.steps={steps}", "train.log_every=1"]
    changes.append("train.schedule.warmup_steps=1")  # the first of 3000 warm-up steps is too small for float32
    mse = 'loss=[{"loss": {"type": "mse"}}]'
    changes.append(f"loss[1].loss.weights={matconvnet}" if name == "rayzer_re10k" else mse)
    run = train(name, tmp_path, changes, timeout=1800)
    try:
        *_, line = records(run, "train")
        assert line["step"] == steps
        assert line["skipped"] == 0
        assert np.isfinite([line["loss"], line["grad_norm"], line["psnr"]]).all()
        assert ("perceptual" in line) == (name == "rayzer_re10k")
        trained = openrayzer.load_model(run).state_dict()
        plan = load_experiment(run / "experiment.json")
        seed_all(plan.resolved["train"]["seed"])
        untouched = construct(plan.plan.arguments["model"]).state_dict()
        still = [key for key, value in untouched.items() if value.numel() and torch.equal(value, trained[key])]
        assert still == []
    finally:
        shutil.rmtree(run)  # gigabytes of optimizer state
