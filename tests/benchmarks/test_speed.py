"""Benchmarks of attention, rendering and training run to their end, and their sides do the same work."""

import json
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest
import torch

from openrayzer.benchmarks import cost_curves
from openrayzer.benchmarks.attention_report import plot, table, verdicts
from openrayzer.benchmarks.attention_speed import DIRECTIONS, Figure, calls_of
from openrayzer.benchmarks.attention_speed import measure as measure_attention
from openrayzer.benchmarks.growing_speed import measure_growth
from openrayzer.benchmarks.matmul_speed import Product, products_rate
from openrayzer.benchmarks.rendering_speed import BASELINE
from openrayzer.benchmarks.rendering_speed import measure as measure_rendering
from openrayzer.benchmarks.timing import Timing
from openrayzer.benchmarks.training_speed import TrainingSide, measure, work_of
from openrayzer.benchmarks.worktree import worktree
from openrayzer.interfaces import ATTENTION_BACKENDS, InputError

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "experiments" / "rayzer_latent_demo.json"
TINY = (
    "shared.width=32", "shared.num_heads=2", "model.estimator_depth=1", "model.encoder_depth=1",
    "model.renderer.depth=1", "data.image_size=[16, 16]", "train.batch_size=2",
)  # fmt: skip


def tool(name: str):
    spec = spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_attention_backend_is_near_the_formula_or_gives_a_reason(tmp_path):
    calls = calls_of(views=2, tokens=5, latents=3, heads=2, head_width=8, dtype="float32")
    assert {call.kind: (call.batch, call.queries, call.keys) for call in calls} == {
        "global": (1, 10, 10),
        "frame": (2, 5, 5),
        "latents": (1, 13, 13),
        "target with scene": (2, 8, 8),
        "target with cached scene": (1, 10, 3),
    }
    figures = list(measure_attention(calls[-1:], device=torch.device("cpu"), rounds=1))
    assert {(figure.backend, figure.direction) for figure in figures} == {
        (entry.name, direction) for entry in ATTENTION_BACKENDS if entry.name != "auto" for direction in DIRECTIONS
    }
    measured = [figure for figure in figures if figure.seconds]
    assert max(figure.error for figure in measured) < 1e-5
    assert [figure.backend for figure in measured if figure.chosen] == ["sdpa", "sdpa"]
    forward = next(figure for figure in measured if figure.direction == DIRECTIONS[0])
    assert forward.flops_per_second * forward.seconds.median == pytest.approx(4 * 2 * 10 * 3 * 8)
    lines = list(table(figures))
    assert "xformers in float32: its operators need a CUDA device" in lines[-1]
    plot(figures, tmp_path / "attention.png")
    assert (tmp_path / "attention.png").read_bytes().startswith(b"\x89PNG")


def test_the_verdict_names_a_backend_faster_than_the_choice_of_auto():
    call = calls_of(views=1, tokens=8, latents=1, heads=2, head_width=8, dtype="bfloat16")[0]

    def verdict(**seconds: float) -> str:
        figures = [
            Figure(call, DIRECTIONS[1], name, seconds=Timing(each, each), chosen=name == "flash")
            for name, each in seconds.items()
        ]
        return next(verdicts(figures))

    assert verdict(flash=1.0, cudnn=2.0) == "global, 8 -> 8, bfloat16: auto takes flash, the fastest"
    assert verdict(flash=1.0, cudnn=0.98).endswith("the fastest")
    assert verdict(flash=4.0, cudnn=3.0).endswith("auto takes flash, and cudnn took 25% less")


def test_memory_of_attention_counts_the_scores():
    (call,) = calls_of(views=1, tokens=256, latents=1, heads=2, head_width=8, dtype="float32")[:1]
    figures = list(measure_attention([call], device=torch.device("cpu"), rounds=1))
    taken = {figure.backend: figure.extra_bytes for figure in figures if figure.direction == DIRECTIONS[0]}
    scores = 4 * 2 * 256 * 256
    assert scores <= taken["reference"] <= 4 * scores
    assert taken["sdpa"] < scores


def test_the_attention_tool_refuses_wrong_options(monkeypatch):
    main = tool("benchmark_attention").main
    for arguments, says in (["--heads", "6"], "NUMBERxWIDTH"), (["--device", "tpu"], "no device 'tpu'"):
        monkeypatch.setattr(sys, "argv", ["benchmark_attention.py", *arguments])
        with pytest.raises(InputError, match=says):
            main()


def test_products_of_a_step_are_counted():
    side = TrainingSide(name="tiny", experiment=DEMO, overrides=TINY)
    work = work_of(side)
    assert work.flops == sum(product.flops * count for product, count in work.products.items())
    assert work_of(TrainingSide(name="two ranks", experiment=DEMO, overrides=TINY, ranks=2)).flops == work.flops / 2
    assert Product(((3, 4, 5), (3, 5, 6)), ((20, 5, 1), (30, 6, 1))).flops == 2 * 3 * 4 * 5 * 6
    assert products_rate(dict(list(work.products.items())[:2]), device=torch.device("cpu"), dtype=torch.float32) > 0


def test_renderers_give_the_same_images_with_any_number_of_views_per_call():
    found = {
        line.name: line
        for line in measure_rendering(DEMO, overrides=TINY, contexts=2, targets=3, batch=2, rounds=1, bf16=False)
    }
    assert found[BASELINE].faster == 1
    assert "reading, prepared, 2 views per call" in found
    assert max(line.difference for line in found.values()) < 1e-5
    with pytest.raises(InputError, match=r"rayder.*no renderer"):
        measure_rendering(ROOT / "experiments" / "rayder_demo.json")


def test_a_growing_scene_is_measured_beside_a_model_that_starts_from_scratch():
    growing = [*TINY, "model.encoder=per_view", 'model.renderer={"type": "layered", "depth": 1}']
    found = measure_growth(DEMO, DEMO, overrides=growing, views=(1, 3), targets=2, rounds=1, bf16=False)
    assert [line.views for line in found] == [1, 3]
    assert max(line.difference for line in found) < 1e-5
    assert found[1].scene_bytes == 2 * found[0].scene_bytes  # four views beside two
    assert all(line.faster == line.scratch.median / line.extended.median for line in found)
    with pytest.raises(InputError, match="cannot add views to a scene"):
        measure_growth(DEMO, DEMO, overrides=TINY, views=(1,), targets=1, rounds=1)
    with pytest.raises(InputError, match=r"width 192 .*lvsm_decoder_re10k.json has 768 .*; give both the same"):
        measure_growth(DEMO, ROOT / "experiments/lvsm_decoder_re10k.json")


@pytest.mark.slow
def test_cost_curves_grow_and_counted_bytes_match_measured_bytes(monkeypatch):
    monkeypatch.setattr(cost_curves, "VIEWS", (4, 8))
    monkeypatch.setattr(cost_curves, "SIDES", (32, 64))
    monkeypatch.setattr(cost_curves, "WIDTHS", (64,))
    costs = list(cost_curves.curves(DEMO, overrides=[*TINY, 'model.attention={"type": "sdpa"}'], limit=0.2e9))
    assert [(cost.axis, cost.size) for cost in costs] == [
        ("views", 4), ("views", 8), ("resolution", 32), ("resolution", 64), ("width", 64),
    ]  # fmt: skip
    for less, more in ((costs[0], costs[1]), (costs[2], costs[3])):
        assert less.step_flops < more.step_flops
        assert less.attention_share < more.attention_share
        assert less.step_bytes < more.step_bytes
    small = costs[0].measured
    assert small is not None
    assert small.step_bytes == pytest.approx(costs[0].step_bytes, rel=0.15)
    assert small.frame_bytes == pytest.approx(costs[0].frame_bytes, rel=0.15)
    assert costs[3].measured is None  # above the limit
    lines = "\n".join(cost_curves.table(costs)).splitlines()
    assert len(lines) == 2 + len(costs)


@pytest.mark.slow
def test_zero_and_plain_ddp_train_equally_and_their_memory_is_measured(monkeypatch, capsys, tmp_path):
    arguments = [str(DEMO), "--against", "ddp", "--clips", "noise", "--steps", "1", "--rounds", "2", "--warm_up", "2"]
    output = tmp_path / "speed.json"
    monkeypatch.setattr(sys, "argv", ["benchmark_training.py", *arguments, "--set", *TINY, "--output", str(output)])
    assert tool("benchmark_training").main() == 0
    zero, ddp = json.loads(output.read_text())
    assert zero["weights"] == ddp["weights"]
    assert zero["loss"] == pytest.approx(ddp["loss"], rel=2e-2)
    per_weight = [(side["state_bytes"] - side["copied_bytes"]) / side["weights"] for side in (zero, ddp)]
    assert per_weight[1] == pytest.approx(12, rel=0.1)  # gradient and two averages, four bytes each
    assert per_weight[0] < per_weight[1]
    assert zero["parts"]["communication"] > 0
    printed = capsys.readouterr().out
    assert "MFU of the step's own products" in printed
    assert "plain DDP" in printed


def test_an_unknown_commit_and_a_short_warm_up_are_refused():
    with pytest.raises(InputError, match="no_such_commit"), worktree("no_such_commit"):
        pass
    with pytest.raises(InputError, match="warm_up 2 or more"):
        measure([], rounds=1, steps=1, warm_up=1)
