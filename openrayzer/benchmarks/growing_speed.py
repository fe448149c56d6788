"""Speed of a scene that grows by one view, beside a model that starts from scratch."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from openrayzer.benchmarks.rendering_speed import cameras_in_a_row, random_images
from openrayzer.benchmarks.timing import Clock, Timing, time_in_turn
from openrayzer.composer import ExperimentPlan, load_experiment
from openrayzer.interfaces import InputError, Model
from openrayzer.types import Cameras, Scene, tensors_of


@dataclass(frozen=True)
class Growth:
    """Measurements for one number of views.

    Attributes:
        views: number of views before the new one.
        extended: seconds to add one view to the prepared scene and to render the targets.
        scratch: seconds of the other model to reconstruct the scene from all views and to render the targets.
        scene_bytes: memory of the prepared scene with all views.
        difference: largest difference of a pixel between the extended scene and the same model's scene of all views.
    """

    views: int
    extended: Timing
    scratch: Timing
    scene_bytes: int
    difference: float

    @property
    def faster(self) -> float:
        """How many times as fast the extended scene is."""
        return self.scratch.median / self.extended.median


def measure_growth(
    experiment: Path,
    against: Path,
    *,
    overrides: Sequence[str] = (),
    views: Sequence[int] = (4, 8, 16, 32, 64),
    targets: int = 8,
    rounds: int = 3,
    bf16: bool = True,
    clock: Clock = time.perf_counter,
) -> list[Growth]:
    """Add one view to scenes of noise with random weights, and render targets; the time depends on neither.

    Args:
        experiment: experiment of a model that can extend a scene.
        against: experiment of the model that starts from scratch.
        overrides: changes of both experiments, as ``--set`` takes them.
        views: numbers of views before the new one.
        targets: number of views to render, in one call.
        rounds: number of measured rounds.
        bf16: whether autocast to bfloat16 is on.
        clock: clock for a CPU; by default, the time that passes.

    Raises:
        InputError: a number is below 1, the sizes of images or tokens differ, or the model cannot extend a scene.
    """
    if min(*views, targets, rounds, 1) < 1:
        raise InputError("the numbers of views, targets and rounds must be 1 or more")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    plans = [load_experiment(file, overrides=overrides) for file in (experiment, against)]
    sizes = [(plan.resolved["model"].get("width"), tuple(plan.resolved["data"]["image_size"])) for plan in plans]
    if sizes[0] != sizes[1]:
        raise InputError(
            f"{experiment} has tokens of width {sizes[0][0]} and images of {sizes[0][1]}, {against} has {sizes[1][0]} "
            f"and {sizes[1][1]}; give both the same with --set shared.width=N data.image_size=[H,W]"
        )
    grown, other = (_model(plan, device) for plan in plans)
    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=bf16):
        return [_growth(grown, other, count, targets, sizes[0][1], device, rounds, clock) for count in views]


def _growth(
    grown: Model,
    other: Model,
    count: int,
    targets: int,
    size: tuple[int, int],
    device: torch.device,
    rounds: int,
    clock: Clock,
) -> Growth:
    cameras = cameras_in_a_row(count + 1 + targets, device)
    path = _part(cameras, slice(count + 1, None))
    images = random_images(count + 1, size).to(device)
    scene = grown.prepare(grown.reconstruct(images[:, :count], _part(cameras, slice(count))))

    def extended() -> Scene:
        return grown.extend(scene, images[:, count:], _part(cameras, slice(count, count + 1)))

    def from_scratch(model: Model) -> Tensor:
        return model.render(model.reconstruct(images, _part(cameras, slice(count + 1))), path)

    ways: dict[str, Callable[[], object]] = {
        "extended": lambda: grown.render(extended(), path),
        "scratch": lambda: from_scratch(other),
    }
    timings = time_in_turn(ways, rounds=rounds, device=device, clock=clock)
    larger = extended()
    difference = (grown.render(larger, path) - from_scratch(grown)).abs().max()
    memory = sum(tensor.nbytes for tensor in tensors_of(larger))
    return Growth(count, timings["extended"], timings["scratch"], memory, float(difference))


def _part(cameras: Cameras, views: slice) -> Cameras:
    return Cameras(cameras.c2w[:, views], cameras.intrinsics[:, views])


def _model(plan: ExperimentPlan, device: torch.device) -> Model:
    torch.manual_seed(0)
    return plan.build().model.to(device).eval()
