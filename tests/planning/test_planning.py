"""Estimates of shapes, activations, memory and checkpoints, compared with measurements."""

import gc
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from openrayzer.composer import load_experiment
from openrayzer.data.sampling.evaluation_index import EvaluationIndex
from openrayzer.data.sampling.overlap_curriculum import OverlapCurriculum
from openrayzer.data.sampling.view_samplers import Window, WindowCurriculum
from openrayzer.interfaces import (
    ATTENTION_BACKENDS,
    AttentionBackend,
    InputError,
    Model,
    UnusableSceneError,
    ViewSampler,
)
from openrayzer.layers.stack import checkpoint_activations
from openrayzer.planning.clip_shapes import ClipShape, clip_shapes, empty_views
from openrayzer.planning.flops import forward_flops
from openrayzer.planning.memory import checkpoint_bytes, memory
from openrayzer.planning.trace import trace_micro_batch

ROOT = Path(__file__).parents[2]
TINY = ROOT / "tests/training/tiny_rayzer.json"


def model_on_meta() -> Model:
    with torch.device("meta"):
        return load_experiment(TINY).build().model


# shapes


def test_all_random_numbers_of_views_are_found():
    sampler = Window(num_context=(2, 4), num_target=1, min_frame_distance=8, max_frame_distance=9)
    assert clip_shapes(sampler, steps=1000) == [ClipShape(3, 2, 1), ClipShape(4, 3, 1), ClipShape(5, 4, 1)]


def test_a_view_that_is_context_and_target_counts_once():
    sampler = Window(num_context=3, num_target=3, min_frame_distance=8, max_frame_distance=9, split="lvsm")
    shapes = clip_shapes(sampler, steps=1000)
    assert {(shape.context, shape.target) for shape in shapes} == {(3, 3)}
    assert shapes[-1].views <= 6
    views = empty_views(shapes[0], (8, 8))
    assert set(views.context[0].tolist()) | set(views.target[0].tolist()) == set(range(shapes[0].views))


def test_curricula_and_samplers_with_tables_have_shapes(tmp_path: Path):
    curriculum = WindowCurriculum(num_context=2, num_target=1, start_min_frame_distance=4, start_max_frame_distance=5,
                                  min_frame_distance=6, max_frame_distance=9, curriculum_steps=50)  # fmt: skip
    assert clip_shapes(curriculum, steps=100) == [ClipShape(3, 2, 1)]
    table = tmp_path / "overlap.json"  # a scene that is used only after the bound has fallen
    table.write_text(json.dumps({"known": {"5": 0.6, "10": 0.5}}))
    overlap = OverlapCurriculum(num_context=3, num_target=2, table=table, curriculum_steps=50)
    assert clip_shapes(overlap, steps=100) == [ClipShape(5, 3, 2)]
    index = tmp_path / "index.json"
    index.write_text(json.dumps({"gone": None, "scene": {"context": [0, 9], "target": [4, 5, 6]}}))
    assert clip_shapes(EvaluationIndex(path=index), steps=100) == [ClipShape(5, 2, 3)]


def test_the_error_names_a_sampler_that_refuses_every_scene():
    class Never(ViewSampler):
        def sample(self, key: str, num_frames: int, generator: np.random.Generator, step: int = 0):
            raise UnusableSceneError("no scene is good enough")

    with pytest.raises(InputError, match=r"Never chooses no views.*no scene is good enough"):
        clip_shapes(Never(), steps=10)


# one micro-batch


@pytest.mark.parametrize("recomputed", [pytest.param(0, marks=pytest.mark.slow), 1])
def test_planned_activations_match_a_real_micro_batch(recomputed: int):
    real, planned, shape, size = load_experiment(TINY).build().model, model_on_meta(), ClipShape(5, 3, 2), (96, 128)
    for model in (real, planned):
        checkpoint_activations(model, every=recomputed)
    trace = trace_micro_batch(planned, shape, size, batch=2, bf16=False, device="cpu")
    assert trace.peak == pytest.approx(measured_peak(real, shape, size), rel=0.06)
    assert all(weight.is_meta for weight in planned.parameters())


def measured_peak(model: Model, shape: ClipShape, size: tuple[int, int]) -> int:
    """Peak bytes of torch's allocator during a forward and backward pass."""

    def drop(weight: torch.Tensor) -> None:
        weight.grad = None

    def step() -> None:
        views = empty_views(shape, size, batch=2)
        images = model(views).images
        torch.stack([images.mean(), 0 * views.target_images.mean()]).sum().backward()

    hooks = [weight.register_post_accumulate_grad_hook(drop) for weight in model.parameters()]
    step()  # allocations of the first step do not count
    gc.collect()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        step()
    for hook in hooks:
        hook.remove()
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    return max(np.cumsum([event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]))


def test_recomputing_trades_memory_for_computation():
    model, shape = model_on_meta(), ClipShape(5, 3, 2)
    kept = trace_micro_batch(model, shape, (96, 128), batch=2, bf16=False)
    checkpoint_activations(model, every=1)
    again = trace_micro_batch(model, shape, (96, 128), batch=2, bf16=False)
    assert again.kept < 0.5 * kept.kept
    assert again.total > 1.2 * kept.total
    assert again.forward == kept.forward == 2 * forward_flops(model, on_meta(shape, (96, 128)))
    bf16 = trace_micro_batch(model, shape, (96, 128), batch=2, bf16=True)
    assert bf16.kept < again.kept


def on_meta(shape: ClipShape, size: tuple[int, int]):
    with torch.device("meta"):
        return empty_views(shape, size)


def test_losses_count():
    model, shape = model_on_meta(), ClipShape(5, 3, 2)
    with torch.device("meta"):
        network = nn.Conv2d(3, 64, 3, padding=1)

    class Perceptual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
            return (self.network(prediction.flatten(0, 1)) - self.network(target.flatten(0, 1))).square().mean()

    without = trace_micro_batch(model, shape, (24, 32), batch=1, bf16=False)
    counted = trace_micro_batch(model, shape, (24, 32), batch=1, bf16=False, losses=[Perceptual()])
    convolution = 2 * (2 * 24 * 32) * 64 * 27
    assert counted.forward - without.forward == 2 * convolution
    assert network.weight.is_meta


def test_a_loss_with_precision_auto_is_planned_in_bfloat16_on_gpus():
    class Rounded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.precision, self.seen = "auto", []

        def forward(self, prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
            self.seen.append(self.precision)
            return (prediction - target).square().mean()

    loss = Rounded()
    for device in ("cuda", "cpu"):
        trace_micro_batch(
            model_on_meta(), ClipShape(5, 3, 2), (24, 32), batch=1, bf16=True, losses=[loss], device=device
        )
    assert loss.seen == ["bfloat16", "auto"]
    assert loss.precision == "auto"


def test_an_attention_kernel_of_gpus_is_planned_without_one():
    shape, size = ClipShape(5, 3, 2), (24, 32)
    named = model_on_meta()
    kernel = ATTENTION_BACKENDS["flash"]()
    for module in named.modules():
        for name, value in vars(module).items():
            if isinstance(value, AttentionBackend):
                setattr(module, name, kernel)
    given = trace_micro_batch(named, shape, size, batch=1, bf16=True)
    assert given == trace_micro_batch(model_on_meta(), shape, size, batch=1, bf16=True)
    assert any(value is kernel for module in named.modules() for value in vars(module).values())


def test_code_that_reads_numbers_gets_zeros():
    class Careful(nn.Module):
        def forward(self, prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
            if (prediction == target).any() or float(prediction.detach().sum()) > 1:
                raise ValueError("a fake tensor has no numbers")
            return (prediction - target).square().mean()

    trace = trace_micro_batch(model_on_meta(), ClipShape(5, 3, 2), (24, 32), batch=1, bf16=False, losses=[Careful()])
    assert trace.kept > 0


# memory and disk


def test_zero_divides_memory_as_in_the_paper():
    model = nn.Linear(999, 1000)  # a million weights with the bias
    config = {"zero_optimization": {"reduce_bucket_size": 1000}}
    one, two, three = (memory(model, config, ranks=4, stage=stage) for stage in (1, 2, 3))
    assert (one.weights, one.gradients, one.optimizer) == (4e6, 4e6, 2e6)
    assert (two.weights, two.gradients, two.optimizer, two.buffers) == (4e6, 1e6, 2e6, 4e3)
    assert (three.weights, three.gradients, three.optimizer) == (
        1e6 + 4e6,
        1e6,
        3e6,
    )  # a rank gathers all weights
    little = {"zero_optimization": {"stage3_max_live_parameters": 0}}
    assert memory(model, little, ranks=4, stage=3).weights == 1e6
    assert memory(model, config, ranks=4, stage=2, averaged=True).optimizer == 3e6
    assert memory(model, config | {"bf16": {"enabled": True}}, ranks=1, stage=1).weights == 2e6
    assert memory(model, config | {"bf16": {"enabled": True}}, ranks=4, stage=2).optimizer == 3e6
    offloaded = {"zero_optimization": {"offload_optimizer": {"device": "cpu"}}}
    assert memory(model, offloaded, ranks=4, stage=2).optimizer == 3e6
    model.weight.requires_grad_(False)
    assert memory(model, config, ranks=4, stage=2).optimizer == 2e3


@pytest.mark.slow
@pytest.mark.parametrize(("stage", "ema"), [(1, 0.0), (2, 0.99), (3, 0.0)])
def test_a_checkpoint_is_as_large_as_planned(tmp_path: Path, stage: int, ema: float):
    wide = json.loads(TINY.read_text())
    wide["shared"] |= {"width": 256}
    (tmp_path / "wide.json").write_text(json.dumps(wide))
    config = {"zero_optimization": {"stage": stage}}
    (tmp_path / "zero.json").write_text(json.dumps(config))
    command = [
        sys.executable, str(ROOT / "tools/train.py"), "--exp", "wide.json", "--output", "run", "--set",
        "train.steps=1", "data.test=[]", "deepspeed=zero.json", "data.workers=0", f"train.ema_decay={ema}",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    on_disk = sum(file.stat().st_size for file in (tmp_path / "run/checkpoints/step_00000001").iterdir())
    with torch.device("meta"):
        model = load_experiment(tmp_path / "wide.json").build().model
    planned = checkpoint_bytes(model, config, stage=stage, averaged=ema > 0)
    assert planned > 20e6
    assert on_disk == pytest.approx(planned, rel=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("stage", [1, 2, 3])
def test_the_memory_of_a_rank_matches_the_plan(tmp_path: Path, stage: int):
    """Between steps a rank holds at least weights and optimizer, and at most gradients and buffers as well."""
    wide = json.loads(TINY.read_text())
    wide["shared"] |= {"width": 256}
    (tmp_path / "wide.json").write_text(json.dumps(wide))
    zero = {"stage": stage, "reduce_bucket_size": 1_000_000, "overlap_comm": False}
    (tmp_path / "zero.json").write_text(json.dumps({"zero_optimization": zero}))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command += [str(Path(__file__).with_name("held_by_a_rank.py")), "wide.json", "zero.json"]
    done = subprocess.run(
        command, cwd=tmp_path, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False
    )
    lines = [json.loads(text) for text in re.findall(r'{"held".*?}', done.stdout)]  # both ranks may write to one line
    assert len(lines) == 2, done.stderr
    for line in lines:
        gathered = line["weights"] / 3 * 2 if stage == 3 else 0  # gathered for a short time only
        kept = line["weights"] - gathered + line["optimizer"]
        most = line["weights"] + line["gradients"] + line["optimizer"] + line["buffers"]
        assert 0.98 * kept <= line["held"] <= 1.05 * most
