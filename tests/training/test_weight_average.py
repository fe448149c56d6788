"""The averaged weights: their formula, resuming, loading, and no influence on the training."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from openrayzer.interfaces import InputError
from openrayzer.weights.finding import find_weights, load_weights

pytestmark = [pytest.mark.filterwarnings("ignore::FutureWarning"), pytest.mark.filterwarnings("ignore::UserWarning")]

Train = Callable[..., int]
DECAY = 0.5


def load(folder: Path, kind: str, step: int) -> dict[str, Tensor]:
    return load_weights(find_weights(folder, checkpoint=f"step_{step:08d}"), weights=kind)


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.mark.parametrize("deepspeed", ["zero1", "zero2", "zero2_offload", "zero3"])
def test_the_average_follows_its_formula(train: Train, tmp_path: Path, deepspeed: str):
    train(tmp_path, steps=4, checkpoint_every=1, keep_checkpoints=9, ema_decay=DECAY,
          deepspeed=f"ds_configs/{deepspeed}.json")  # fmt: skip
    expected = load(tmp_path, "ema", 1)
    for number in (2, 3, 4):
        keep = min(DECAY, (1 + number) / (10 + number))
        raw = load(tmp_path, "raw", number)
        expected = {name: keep * value + (1 - keep) * raw[name] for name, value in expected.items()}
    for name, value in load(tmp_path, "ema", 4).items():
        torch.testing.assert_close(value, expected[name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("deepspeed", ["zero2", "zero2_bf16", "zero3"])
def test_evaluating_the_average_does_not_change_the_training(train: Train, tmp_path: Path, deepspeed: str):
    setup = {"steps": 4, "deepspeed": f"ds_configs/{deepspeed}.json", "test": True, "evaluate_every": 1}
    train(tmp_path / "without", **setup)
    train(tmp_path / "with", **setup, ema_decay=DECAY)
    assert same(load(tmp_path / "without", "raw", 4), load(tmp_path / "with", "raw", 4))
    lines = [json.loads(line) for line in (tmp_path / "with/metrics.jsonl").read_text().splitlines()]
    raw, averaged = ([line for line in lines if line["split"] == split] for split in ("test", "test_ema"))
    assert len(raw) == len(averaged) == 4
    assert raw[-1]["psnr"] != averaged[-1]["psnr"]
    assert raw[-1]["psnr_mean_context"] == averaged[-1]["psnr_mean_context"]
    assert (tmp_path / "with/evaluation/ema/metrics.json").exists()


def test_a_skipped_step_is_not_averaged(train: Train, tmp_path: Path):
    train(tmp_path, steps=2, checkpoint_every=1, ema_decay=DECAY, bad_calls=(2,))
    assert same(load(tmp_path, "ema", 1), load(tmp_path, "ema", 2))


def test_a_resumed_average_is_equal_to_the_bit(train: Train, tmp_path: Path):
    straight, stopped = tmp_path / "straight", tmp_path / "stopped"
    train(straight, steps=6, checkpoint_every=3, ema_decay=DECAY)
    shutil.copytree(straight, stopped)
    shutil.rmtree(stopped / "checkpoints/step_00000006")
    train(stopped, steps=6, checkpoint_every=3, ema_decay=DECAY)
    assert same(load(straight, "ema", 6), load(stopped, "ema", 6))


def test_another_stage_loads_the_average(train: Train, tmp_path: Path):
    train(tmp_path, steps=3, ema_decay=DECAY)
    # A step that is skipped shows what was taken over.
    train(tmp_path, steps=4, ema_decay=DECAY, deepspeed="ds_configs/zero3.json", bad_calls=tuple(range(9)))
    assert same(load(tmp_path, "ema", 3), load(tmp_path, "ema", 4))


def test_loading_takes_the_average_by_default(train: Train, tmp_path: Path):
    train(tmp_path, steps=3, ema_decay=DECAY)
    place = find_weights(tmp_path)
    assert same(load_weights(place), load_weights(place, weights="ema"))
    assert not same(load_weights(place), load_weights(place, weights="raw"))


def test_loading_a_missing_average_is_a_message(train: Train, tmp_path: Path):
    train(tmp_path, steps=1)
    assert load_weights(find_weights(tmp_path))
    with pytest.raises(InputError, match=r"has no averaged weights: its run has train.ema_decay 0"):
        load_weights(find_weights(tmp_path), weights="ema")
