"""A toy experiment for the training tests: images of a single colour, a model of a few small layers."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from openrayzer.interfaces import (
    Dataset,
    Frames,
    Loss,
    Model,
    UnposedInputError,
    ViewChoice,
    ViewSampler,
)
from openrayzer.models.token_scene import TokenScene
from openrayzer.settings import BadSteps, DataSettings, EvaluationSettings, Experiment, LossTerm, Source, TrainSettings
from openrayzer.training.optimizers import AdamW
from openrayzer.training.schedules import WarmupCosine
from openrayzer.types import Cameras


class ToyModel(Model):
    """A small network of the mean context colour, plus a colour that depends on the camera position."""

    posed = True
    patch_size = 4

    def __init__(self, *, width: int = 8) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(3, width), nn.GELU(), nn.Linear(width, 3))
        self.camera = nn.Linear(3, 3)
        self.offset = nn.Parameter(torch.zeros(3))

    def estimate(self, images: Tensor) -> Cameras:
        raise UnposedInputError("the toy needs cameras")

    def reconstruct(self, images: Tensor, cameras: Cameras, index: Tensor | None = None) -> TokenScene:
        tokens = self.inner(images.mean(dim=(1, 3, 4)))[:, None]
        return TokenScene(tokens, torch.zeros(tokens.shape[0], 1, 2), image_size=(images.shape[3], images.shape[4]))

    def render(self, scene: TokenScene, cameras: Cameras) -> Tensor:
        colour = scene.tokens + self.camera(cameras.c2w[:, :, :3, 3]) * (1 + self.offset)
        return colour[..., None, None].expand(*colour.shape, *scene.image_size)


class ToyDataset(Dataset):
    """Scenes of six frames, each of one colour."""

    posed = True

    def __init__(self, *, scenes: int = 12) -> None:
        super().__init__()
        self.scenes = scenes

    def open(self) -> None:
        pass

    def __len__(self) -> int:
        return self.scenes

    def key(self, scene: int) -> str:
        return f"scene_{scene:03d}"

    def num_frames(self, scene: int) -> int:
        return 6

    def read(self, scene: int, frames: Sequence[int]) -> Frames:
        images, poses = [], []
        for frame in frames:
            colour = np.random.default_rng((scene, frame)).integers(0, 256, 3, dtype=np.uint8)
            images.append(np.broadcast_to(colour, (8, 8, 3)).copy())
            pose = np.eye(4, dtype=np.float32)
            pose[:3, 3] = colour / 255.0
            poses.append(pose)
        intrinsics = np.tile(np.array([1, 1, 0.5, 0.5], np.float32), (len(images), 1))
        return Frames(images, np.stack(poses), intrinsics)


class ToySampler(ViewSampler):
    """Three random context views and two random target views."""

    def sample(self, key: str, num_frames: int, generator: np.random.Generator, step: int = 0) -> ViewChoice:
        order = [int(frame) for frame in generator.permutation(num_frames)]
        return ViewChoice(tuple(sorted(order[:3])), tuple(sorted(order[3:5])))

    def difficulty(self, step: int) -> dict[str, float]:
        return {"toy_difficulty": 10 * step}


class ToyLoss(Loss):
    """Mean squared error that is NaN in some calls.

    Args:
        bad_calls: numbers of the calls, from 0, that give NaN.
    """

    def __init__(self, *, bad_calls: tuple[int, ...] = ()) -> None:
        super().__init__()
        self.bad_calls, self.calls = bad_calls, 0

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        loss = (prediction - target).square().mean()
        self.calls += 1
        return loss * float("nan") if self.calls - 1 in self.bad_calls else loss


def settings(**changes: object) -> TrainSettings:
    """A short run; ``changes`` replace single values."""
    values: dict[str, object] = {
        "steps": 6, "batch_size": 4, "accumulation": 2, "log_every": 1, "sample_every": 0, "evaluate_every": 0,
        "checkpoint_every": 0, "bad_steps": BadSteps(grace_steps=0, norm_factor=0.0),
        "optimizer": AdamW(learning_rate=1e-2), "schedule": WarmupCosine(warmup_steps=2),
    }  # fmt: skip
    return TrainSettings(**(values | changes))  # type: ignore[arg-type]


def experiment(*, deepspeed: str = "ds_configs/zero2.json", bad_calls: tuple[int, ...] = (), workers: int = 0,
               test: bool = False, more_loss: tuple[LossTerm, ...] = (), **changes: object) -> Experiment:  # fmt: skip
    """The toy experiment, always with the same initial weights."""
    torch.manual_seed(0)
    held_out = (Source(dataset=ToyDataset(scenes=5)),) if test else ()
    return Experiment(
        model=ToyModel(),
        data=DataSettings(
            train=(Source(dataset=ToyDataset()),), test=held_out, view_sampler=ToySampler(), image_size=(8, 8),
            workers=workers, normalise_poses=False,
        ),
        loss=(LossTerm(loss=ToyLoss(bad_calls=bad_calls)), *more_loss),
        train=settings(**changes),
        evaluation=EvaluationSettings(view_sampler=ToySampler(), batch_size=2),
        deepspeed=deepspeed,
    )  # fmt: skip


class Evil:
    """Would create a file when unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return (Path.touch, (self.target,))
