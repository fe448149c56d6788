"""A training run allows TF32 in the matrix products of mixed-precision steps, and nowhere else."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from openrayzer.interfaces import Loss
from openrayzer.settings import LossTerm

Seen = dict[str, set[tuple[bool, bool]]]
EXACT, PRODUCTS = {(False, False)}, {(True, False)}


def flags() -> tuple[bool, bool]:
    """Whether matrix products and convolutions may use TF32."""
    return torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32


class Watched(torch.autograd.Function):
    """The identity; records the flags in its forward and backward pass."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, seen: Seen, name: str) -> Tensor:
        ctx.seen, ctx.name = seen, name
        seen.setdefault(f"{name} forward", set()).add(flags())
        return values.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        ctx.seen.setdefault(f"{ctx.name} backward", set()).add(flags())
        return gradient, None, None


class Spy(Loss):
    """A loss of zero that records the flags."""

    def __init__(self, seen: Seen) -> None:
        super().__init__()
        self.seen = seen

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        return 0 * Watched.apply(prediction, self.seen, "loss").mean()


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Seen:
    """The recorded flags."""
    import toy

    found: Seen = {}
    render = toy.ToyModel.render

    def watched(self: toy.ToyModel, scene: Any, cameras: Any) -> Tensor:
        images = render(self, scene, cameras)
        return Watched.apply(images, found, "model" if torch.is_grad_enabled() else "evaluation")

    monkeypatch.setattr(toy.ToyModel, "render", watched)
    return found


def test_products_of_the_steps_use_it_and_evaluation_does_not(train: Callable, seen: Seen, tmp_path: Path):
    before = flags()
    assert train(tmp_path, steps=2, test=True, evaluate_every=1, more_loss=(LossTerm(loss=Spy(seen)),)) == 0
    assert seen == {
        "model forward": PRODUCTS,
        "model backward": PRODUCTS,
        "loss forward": PRODUCTS,  # convolutions, which losses are made of, never use it
        "loss backward": PRODUCTS,
        "evaluation forward": EXACT,
    }
    assert flags() == before


@pytest.mark.parametrize(
    ("deepspeed", "tf32", "expected"),
    [
        ("zero2", False, EXACT),
        ("zero2_bf16", True, PRODUCTS),
        ("zero2_fp32", True, EXACT),
    ],
)
def test_the_setting_and_float32_throughout_keep_it_off(
    train: Callable, seen: Seen, tmp_path: Path, deepspeed: str, tf32: bool, expected: set
):
    assert train(tmp_path, steps=1, tf32=tf32, deepspeed=f"ds_configs/{deepspeed}.json") == 0
    assert seen["model forward"] == seen["model backward"] == expected
