"""Plans of models with custom operators instead of tokens, and of optimizers other than Adam."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from openrayzer.composer import load_experiment
from openrayzer.interfaces import Model, Optimizer
from openrayzer.planning.clip_shapes import ClipShape
from openrayzer.planning.cost_report import Setting, cost_lines
from openrayzer.planning.gpu_rates import GPUS
from openrayzer.planning.memory import checkpoint_bytes, memory
from openrayzer.planning.optimizer_state import ADAM, state_bytes
from openrayzer.planning.roofline_report import roofline_lines
from openrayzer.planning.trace import trace_micro_batch
from openrayzer.training.optimizers import AdamW
from openrayzer.types import Prediction, Scene, Views

TINY = Path(__file__).parents[2] / "tests/training/tiny_rayzer.json"
WIDTH = 6


@torch.library.custom_op("planning_test::splat", mutates_args=())
def splat(points: Tensor, height: int, width: int) -> Tensor:
    """Stands for a rasteriser: points (b, n, 3) to images (b, 3, height, width)."""
    return points.mean(dim=1)[..., None, None].expand(-1, -1, height, width).contiguous()


@splat.register_fake
def _(points: Tensor, height: int, width: int) -> Tensor:
    return points.new_empty(points.shape[0], 3, height, width)


splat.register_autograd(
    lambda ctx, gradient: (gradient.new_zeros(ctx.shape), None, None),
    setup_context=lambda ctx, inputs, output: setattr(ctx, "shape", inputs[0].shape),
)


@torch.library.custom_op("planning_test::splat_without_a_rule", mutates_args=())
def splat_without_a_rule(points: Tensor, height: int, width: int) -> Tensor:
    """The same without a rule for fake tensors."""
    return points.mean(dim=1)[..., None, None].expand(-1, -1, height, width).contiguous()


@dataclass(frozen=True)
class Points(Scene):
    """One coloured point for each pixel of the context."""

    colours: Tensor


class Splats(Model):
    """A model whose scene is a set of points and whose renderer is a custom operator."""

    posed = False

    def __init__(self, rasteriser=splat) -> None:
        super().__init__()
        self.patch_size = 1
        self.into, self.out, self.rasteriser = nn.Linear(3, WIDTH), nn.Linear(WIDTH, 3), rasteriser

    def estimate(self, images, intrinsics=None):
        raise NotImplementedError

    def reconstruct(self, images, cameras, index=None):
        pixels = images.permute(0, 1, 3, 4, 2).flatten(1, 3)
        return Points(self.out(self.into(pixels)), image_size=images.shape[-2:])

    def render(self, scene, cameras):
        images = [self.rasteriser(scene.colours, *scene.image_size) for _ in range(cameras.num_views)]
        return torch.stack(images, dim=1)

    def forward(self, views: Views) -> Prediction:
        cameras = views.cameras
        scene = self.reconstruct(views.context_images, cameras.select(views.context))
        return Prediction(self.render(scene, cameras.select(views.target)), cameras)


def setting(rasteriser=splat) -> Setting:
    with torch.device("meta"):
        experiment = replace(load_experiment(TINY).build(), model=Splats(rasteriser))
    return Setting(experiment, {"zero_optimization": {"stage": 2}}, ranks=1, micro_batch=2)


def test_products_are_counted_and_a_custom_operator_is_named():
    cost = trace_micro_batch(setting().experiment.model, ClipShape(5, 3, 2), (8, 16), batch=2, bf16=False)
    assert cost.forward == 2 * 2 * (2 * 3 * 8 * 16) * 3 * WIDTH
    assert cost.peak > cost.kept > 0
    assert cost.uncounted == ("planning_test::splat",)
    text = "\n".join(cost_lines(setting()))
    assert "not counted" not in text
    assert "computation without planning_test::splat: there is no formula for operators outside PyTorch" in text
    assert any(line.startswith("  train.compile ") for line in roofline_lines(setting(), GPUS["h100"]))


def test_an_operator_without_a_rule_for_fake_tensors_is_a_note():
    lines = cost_lines(setting(splat_without_a_rule))
    assert lines[0].startswith("computation: not counted (RuntimeError: There was no fake impl registered for ")
    assert "splat_without_a_rule" in lines[0]
    assert sum(line.startswith("  ZeRO ") for line in lines) == 3
    (note, _) = roofline_lines(setting(splat_without_a_rule), GPUS["h100"])
    assert note.startswith("  roofline: the losses not counted (RuntimeError: ")


# optimizers


class Plain(Optimizer):
    """Gradient descent with or without momentum."""

    def __init__(self, *, momentum: float) -> None:
        super().__init__()
        self.momentum = momentum

    def build(self, model: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.SGD(model.parameters(), lr=0.1, momentum=self.momentum)


class Closed(Optimizer):
    """An optimizer that cannot make a step alone."""

    def build(self, model: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.LBFGS(model.parameters())


@pytest.mark.parametrize(
    ("optimizer", "expected"), [(AdamW(learning_rate=0.1), ADAM), (Plain(momentum=0.9), 4), (Plain(momentum=0.0), 0)]
)
def test_the_state_of_an_optimizer_is_found_by_one_step(optimizer: Optimizer, expected: float):
    with torch.device("meta"):
        model = nn.Sequential(nn.Linear(30, 20), nn.LayerNorm(20))
    before = json.dumps([str(weight) for weight in model.parameters()])
    assert state_bytes(optimizer, model) == expected
    assert json.dumps([str(weight) for weight in model.parameters()]) == before


def test_memory_and_checkpoints_shrink_with_the_state():
    model = nn.Linear(999, 1000)  # a million weights with the bias
    config = {"zero_optimization": {"stage": 1}}
    assert memory(model, config, ranks=1, state=4.0).optimizer == 4e6
    assert checkpoint_bytes(model, config, state=4.0) == checkpoint_bytes(model, config) - 4_000_000


def test_the_report_says_what_another_optimizer_keeps():
    def lines(optimizer: Optimizer) -> str:
        planned = setting()
        train = replace(planned.experiment.train, optimizer=optimizer)
        return "\n".join(cost_lines(replace(planned, experiment=replace(planned.experiment, train=train))))

    assert "the optimizer" not in lines(AdamW(learning_rate=0.1))
    assert "  the optimizer Plain keeps 4 bytes for each weight" in lines(Plain(momentum=0.9))
    assert "  the state of the optimizer Closed is unknown (TypeError: " in lines(Closed())
    assert "assumed are 8 bytes for each weight, as for Adam" in lines(Closed())
