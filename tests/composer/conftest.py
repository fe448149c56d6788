"""Toy components and a small experiment file for the tests of the composer."""

import json
from collections.abc import Callable, Mapping
from enum import Enum
from pathlib import Path
from typing import Any, Literal

import pytest
from torch import nn

from openrayzer.interfaces import (
    Augmentation,
    CameraHead,
    Dataset,
    InputError,
    Logger,
    Loss,
    Model,
    Optimizer,
    Schedule,
    Tokenizer,
    ViewSampler,
)
from registry import Registry


class Colour(Enum):
    RED = 1
    BLUE = 2


class LinearTokenizer(Tokenizer):
    """Toy."""

    def __init__(self, *, width: int, patch_size: int) -> None:
        super().__init__()
        self.project = nn.Linear(patch_size, width)

    def forward(self, images): ...


class Pi3(CameraHead):
    """Toy."""

    def __init__(self, *, width: int, hidden_width: int = 8, rotation: Literal["svd", "rot6d"] = "svd") -> None:
        super().__init__()
        if hidden_width < 1:
            raise InputError(f"hidden_width must be 1 or more, got {hidden_width}")
        self.hidden = nn.Linear(width, hidden_width)

    def forward(self, tokens, image_size): ...


class Rot6d(CameraHead):
    """Toy."""

    def __init__(self, *, canonical: str = "middle", focal: float = 1.25) -> None:
        super().__init__()
        self.canonical, self.focal = canonical, focal

    def forward(self, tokens, image_size): ...


class ToyModel(Model):
    """Toy."""

    posed = False

    def __init__(
        self,
        *,
        width: int,
        patch_size: int,
        tokenizer: Tokenizer,
        camera_head: CameraHead,
        more: tuple[CameraHead, ...] = (),
        extra: CameraHead | None = None,
        colour: Colour = Colour.RED,
        weights: Path | None = None,
        betas: tuple[float, float] = (0.9, 0.95),
        scales: dict[str, float] | None = None,
    ) -> None:
        super().__init__()
        if width % 2:
            raise ValueError(f"width must be even, got {width}")
        self.patch_size, self.tokenizer, self.camera_head, self.extra = patch_size, tokenizer, camera_head, extra
        self.more, self.colour, self.weights, self.betas, self.scales = more, colour, weights, betas, scales

    def estimate(self, images): ...
    def reconstruct(self, images, cameras, index=None): ...
    def render(self, scene, cameras): ...


class Chunks(Dataset):
    """Toy."""

    def __init__(self, *, root: Path, split: Literal["train", "test"]) -> None:
        self.root, self.split = root, split

    def open(self): ...
    def __len__(self): ...
    def key(self, scene): ...
    def num_frames(self, scene): ...
    def read(self, scene, frames): ...


class Window(ViewSampler):
    """Toy."""

    def __init__(self, *, num_context: int = 2) -> None:
        self.num_context = num_context

    def sample(self, key, num_frames, generator): ...


class Flip(Augmentation):
    """Toy."""

    def __init__(self, *, probability: float = 0.5) -> None:
        self.probability = probability


class Mse(Loss):
    """Toy."""

    def forward(self, prediction, target): ...


class AdamW(Optimizer):
    """Toy."""

    def __init__(self, *, learning_rate: float) -> None:
        self.learning_rate = learning_rate

    def build(self, model): ...


class Constant(Schedule):
    """Toy."""

    def factor(self, step, steps): ...


class Lines(Logger):
    """Toy."""

    def open(self, run_folder, experiment): ...
    def record(self, values): ...


def _registry(kind: str, interface: type, **targets: type) -> Registry:
    registry = Registry(kind, interface)
    for name, target in targets.items():
        registry.register(name)(target)
    return registry


@pytest.fixture
def toys() -> tuple[Registry, ...]:
    """One registry for each interface, with toy components."""
    return (
        _registry("tokenizer", Tokenizer, linear=LinearTokenizer),
        _registry("camera_head", CameraHead, pi3=Pi3, rot6d=Rot6d),
        _registry("model", Model, toy=ToyModel),
        _registry("dataset", Dataset, chunks=Chunks),
        _registry("view_sampler", ViewSampler, window=Window),
        _registry("augmentation", Augmentation, flip=Flip),
        _registry("loss", Loss, mse=Mse),
        _registry("optimizer", Optimizer, adamw=AdamW),
        _registry("schedule", Schedule, constant=Constant),
        _registry("logger", Logger, lines=Lines),
    )


@pytest.fixture
def spec() -> dict[str, Any]:
    """A valid experiment of toy components."""
    return {
        "description": "toys",
        "shared": {"width": 4, "patch_size": 8},
        "model": {"type": "toy", "tokenizer": {"type": "linear"}, "camera_head": {"type": "pi3"}},
        "data": {
            "train": [{"dataset": {"type": "chunks", "root": "here", "split": "train"}}],
            "view_sampler": {"type": "window"},
            "image_size": [16, 32],
        },
        "loss": [{"loss": {"type": "mse"}}],
        "train": {
            "steps": 10,
            "batch_size": 2,
            "optimizer": {"type": "adamw", "learning_rate": 1},
            "schedule": {"type": "constant"},
        },
        "evaluation": {"view_sampler": {"type": "window"}},
    }


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, Mapping[str, Any] | str], Path]:
    """A function that writes an experiment file to ``tmp_path/experiments``."""
    folder = tmp_path / "experiments"
    folder.mkdir()

    def write_file(name: str, content: Mapping[str, Any] | str) -> Path:
        file = folder / name
        file.write_text(content if isinstance(content, str) else json.dumps(content))
        return file

    return write_file
