"""statistics.jsonl holds the right numbers under every ZeRO stage and does not change the training."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from openrayzer.training.logs.module_statistics import ValueSummary
from openrayzer.weights.finding import find_weights, load_weights

pytestmark = [pytest.mark.filterwarnings("ignore::FutureWarning"), pytest.mark.filterwarnings("ignore::UserWarning")]

Train = Callable[..., int]


def lines(folder: Path, name: str = "statistics.jsonl") -> list[dict]:
    return [json.loads(line) for line in (folder / name).read_text().splitlines()]


@pytest.mark.parametrize("deepspeed", ["zero1", "zero2", "zero2_fp32", "zero2_bf16", "zero2_offload", "zero3"])
def test_gradients_and_weights_are_those_of_the_step(train: Train, tmp_path: Path, deepspeed: str):
    train(tmp_path, steps=2, statistics_every=1, checkpoint_every=1, deepspeed=f"ds_configs/{deepspeed}.json")
    first, second = lines(tmp_path)
    assert (first["step"], second["step"]) == (1, 2)
    norms = [
        math.sqrt(sum(row["rms"] ** 2 * row["count"] for row in line["gradients"].values())) for line in (first, second)
    ]
    assert norms == pytest.approx([line["grad_norm"] for line in lines(tmp_path, "metrics.jsonl")], rel=2e-3)
    if deepspeed != "zero2_bf16":  # its checkpoint holds rounded weights
        weights = load_weights(find_weights(tmp_path, checkpoint="step_00000001"))
        inner = torch.cat([weights["inner.0.weight"].flatten(), weights["inner.0.bias"]])
        assert second["weights"]["inner.0"]["rms"] == pytest.approx(float(inner.square().mean().sqrt()), rel=1e-5)
        assert second["weights"]["inner.0"]["max"] == pytest.approx(float(inner.abs().max()), rel=1e-6)
    assert {"inner.0", "inner.2", "camera"} <= set(second["activations"])
    assert second["activations"]["inner.0"]["count"] == 4 * 8  # four scenes, eight features


def test_a_resume_writes_no_line_twice_and_watching_changes_nothing(train: Train, tmp_path: Path):
    train(tmp_path / "watched", steps=4, statistics_every=2, checkpoint_every=3)
    train(tmp_path / "alone", steps=4)
    one, other = (load_weights(find_weights(tmp_path / name)) for name in ("watched", "alone"))
    assert all(torch.equal(value, other[name]) for name, value in one.items())
    train(tmp_path / "watched", steps=5, statistics_every=2, resume=str(tmp_path / "watched/checkpoints/step_00000003"))
    assert [line["step"] for line in lines(tmp_path / "watched")] == [2, 4]


def test_values_that_are_not_finite_are_counted(train: Train, tmp_path: Path):
    train(tmp_path, steps=1, statistics_every=1, bad_calls=(0,))
    (line,) = lines(tmp_path)
    assert all(row["not_finite"] > 0 for row in line["gradients"].values())
    assert all(row["not_finite"] == 0 for row in line["activations"].values())


def test_one_among_millions_is_counted():
    values = torch.zeros(2**24 + 1)
    values[7] = float("nan")
    summary = ValueSummary()
    summary.add(values)
    assert summary.numbers() == [0.0, 2.0**24, 0.0, 1.0]
