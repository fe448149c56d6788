"""The benchmark of data loading runs to its end, and both sides read the same images."""

import json
import sys
from importlib.util import module_from_spec, spec_from_file_location
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from openrayzer.benchmarks.data_speed import Sizes
from openrayzer.benchmarks.png_baseline import convert_to_png, read_png_clip
from openrayzer.benchmarks.sample_scenes import write_scenes, write_tiny_scenes
from openrayzer.benchmarks.training_memory import train_on
from openrayzer.cli import run_tool
from openrayzer.data.loading.loader import build_loader
from openrayzer.data.sampling.view_samplers import Even
from openrayzer.data.sources.chunks import Chunks
from openrayzer.interfaces import InputError
from openrayzer.settings import DataSettings, Source

ROOT = Path(__file__).parents[2]


def test_both_ways_of_reading_give_the_same_images(tmp_path):
    write_scenes(tmp_path, scenes=1, frames=8, chunks=1, size=(360, 640))
    assert convert_to_png(tmp_path / "train", tmp_path / "png", processes=1) == 8
    settings = DataSettings(
        train=(Source(dataset=Chunks(root=tmp_path)),),
        view_sampler=Even(num_context=2, num_target=2),
        image_size=(256, 256),
        workers=0,
    )
    (views,) = islice(build_loader(settings, batch_size_per_rank=1, rank=0, world_size=1, seed=0), 1)
    baseline = read_png_clip(tmp_path / "png", views.scenes[0], views.frames[0].tolist(), size=256, patch=8)
    assert baseline.shape == views.images[0].shape
    # the widths are 456 and 455, so the crops are half a pixel apart
    assert (baseline - views.images[0]).abs().mean() < 0.03
    shifted = torch.roll(baseline, 20, dims=-1)
    assert (shifted - views.images[0]).abs().mean() > 0.06


def test_sample_images_have_the_size_of_real_files(tmp_path):
    write_scenes(tmp_path, scenes=1, frames=8, chunks=1)
    (scene,) = torch.load(tmp_path / "train" / "000000.torch", weights_only=True)
    assert 25_000 < np.mean([len(image) for image in scene["images"]]) < 80_000


def test_the_tool_prints_and_writes_every_line(tmp_path, monkeypatch, capsys):
    spec = spec_from_file_location("benchmark_data", ROOT / "tools" / "benchmark_data.py")
    tool = module_from_spec(spec)
    spec.loader.exec_module(tool)
    small = ["--scenes", "2", "--frames", "8", "--chunks", "1", "--batches", "1", "--clips", "4", "--rounds", "1"]
    monkeypatch.setattr(
        sys,
        "argv",
        [
            "benchmark_data.py",
            *small,
            "--many",
            "12",
            "--no_training",
            "--work",
            str(tmp_path),
            "--output",
            str(tmp_path / "speed.json"),
        ],
    )
    threads = torch.get_num_threads()
    with pytest.raises(SystemExit) as caught:
        run_tool(tool.main)
    torch.set_num_threads(threads)
    assert caught.value.code == 0
    lines = json.loads((tmp_path / "speed.json").read_text())
    printed = capsys.readouterr().out
    assert all(line["name"] in printed and line["value"] > 0 for line in lines)
    assert {"640 x 360: bare JPEG decoding", "index, times faster"} <= {line["name"] for line in lines}
    values = {line["name"]: line["value"] for line in lines}
    assert values["12 scenes, side index: memory of a rank"] > values["12 scenes, side index: of that, libraries"] > 50
    assert [path.name for path in tmp_path.iterdir()] == ["speed.json"]


@pytest.mark.slow
def test_memory_and_time_of_a_training_are_measured(tmp_path):
    write_tiny_scenes(tmp_path / "tiny", scenes=12, frames=8, chunks=3)
    needs = train_on(tmp_path / "tiny", tmp_path / "run")
    assert needs.first_step_seconds > 0
    assert needs.rank_bytes > needs.worker_bytes > 50e6
    assert needs.own_bytes > 50e6


@pytest.mark.parametrize("wrong", [{"scenes": 0}, {"many": -1}, {"chunks": 9}, {"frames": 7}])
def test_wrong_sizes_are_refused(wrong):
    with pytest.raises(InputError, match="must be"):
        Sizes(**wrong)
