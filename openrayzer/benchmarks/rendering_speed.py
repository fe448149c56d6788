"""Speed of each renderer: one view or several views in a call, with and without a prepared scene."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from openrayzer.benchmarks.timing import Timing, time_in_turn
from openrayzer.composer import load_experiment
from openrayzer.interfaces import InputError, Model
from openrayzer.types import Cameras, Scene

BASELINE = "joint, 1 view per call"
"""The baseline, as in LVSM's encoder-decoder: target tokens and the whole memory in one sequence, view by view."""


@dataclass(frozen=True)
class Rendering:
    """Measurements of one way to render.

    Attributes:
        name: renderer and views per call.
        weights: number of weights of the renderer.
        seconds: seconds of all views.
        views: number of views.
        faster: speed relative to the baseline.
        difference: largest difference of a pixel from the same renderer, view by view with an unprepared scene.
    """

    name: str
    weights: int
    seconds: Timing
    views: int
    faster: float
    difference: float


def measure(
    experiment: Path,
    *,
    overrides: Sequence[str] = (),
    contexts: int = 16,
    targets: int = 60,
    batch: int = 8,
    rounds: int = 3,
    bf16: bool = True,
) -> list[Rendering]:
    """Time the rendering of a scene of noise with random weights; the time depends on neither.

    Args:
        experiment: experiment file of a model with a renderer; the other renderers get the same depth.
        overrides: changes of the experiment, as ``--set`` takes them.
        contexts: number of context views of the scene.
        targets: number of views to render.
        batch: number of views in a call.
        rounds: number of measured rounds.
        bf16: whether autocast to bfloat16 is on.

    Raises:
        InputError: the model has no renderer, or a number is below 1.
    """
    if min(contexts, targets, batch, rounds) < 1:
        raise InputError("contexts, targets, batch and rounds must be 1 or more")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=bf16):
        ways, weights, images = dict[str, Callable[[], Tensor]](), dict[str, int](), dict[str, Tensor]()
        for name in ("joint", "reading"):
            model, size = _model(experiment, overrides, name, device)
            cameras = cameras_in_a_row(contexts + targets, device)
            scene = _scene(model, size, Cameras(cameras.c2w[:, :contexts], cameras.intrinsics[:, :contexts]))
            path = Cameras(cameras.c2w[:, contexts:], cameras.intrinsics[:, contexts:])
            for way, render in _ways(model, scene, path, batch):
                ways[f"{name}, {way}"], weights[f"{name}, {way}"] = render, _size(model)
                images[f"{name}, {way}"] = render()
        timings = time_in_turn(ways, rounds=rounds, device=device)
    return [
        Rendering(
            name,
            weights[name],
            timings[name],
            targets,
            timings[BASELINE].median / timings[name].median,
            float((images[name] - images[f"{name.partition(',')[0]}, 1 view per call"]).abs().max()),
        )
        for name in ways
    ]


def _ways(model: Model, scene: Scene, path: Cameras, batch: int) -> Iterator[tuple[str, Callable[[], Tensor]]]:
    yield "1 view per call", lambda: _render(model, scene, path, 1)
    yield f"{batch} views per call", lambda: _render(model, scene, path, batch)
    if model.prepare(scene) is not scene:
        yield "prepared, 1 view per call", lambda: _render(model, model.prepare(scene), path, 1)
        yield f"prepared, {batch} views per call", lambda: _render(model, model.prepare(scene), path, batch)


def _render(model: Model, scene: Scene, path: Cameras, batch: int) -> Tensor:
    parts = [
        model.render(scene, Cameras(path.c2w[:, first : first + batch], path.intrinsics[:, first : first + batch]))
        for first in range(0, path.num_views, batch)
    ]
    return torch.cat(parts, dim=1)


def _model(
    experiment: Path, overrides: Sequence[str], renderer: str, device: torch.device
) -> tuple[Model, tuple[int, int]]:
    resolved = load_experiment(experiment, overrides=overrides).resolved
    given = resolved["model"].get("renderer")
    if given is None or "depth" not in given:
        raise InputError(f"model {resolved['model']['type']!r} has no renderer of tokens to replace")
    change = f'model.renderer={{"type": "{renderer}", "depth": {given["depth"]}}}'
    torch.manual_seed(0)
    built = load_experiment(experiment, overrides=[*overrides, change]).build()
    return built.model.to(device).eval(), built.data.image_size


def _scene(model: Model, size: tuple[int, int], cameras: Cameras) -> Scene:
    return model.reconstruct(random_images(cameras.num_views, size).to(cameras.c2w.device), cameras)


def random_images(count: int, size: tuple[int, int]) -> Tensor:
    """Views of noise, (1, count, 3, h, w), on the CPU."""
    return torch.rand(1, count, 3, *size, generator=torch.Generator().manual_seed(0))


def cameras_in_a_row(count: int, device: torch.device) -> Cameras:
    """Parallel cameras in a row."""
    c2w = torch.eye(4, device=device).repeat(1, count, 1, 1)
    c2w[:, :, 0, 3] = torch.linspace(-1, 1, count, device=device)
    return Cameras(c2w, torch.tensor([1.0, 1.0, 0.5, 0.5], device=device).repeat(1, count, 1))


def _size(model: Model) -> int:
    return sum(weight.numel() for weight in model.scene.renderer.parameters())  # type: ignore[union-attr, operator, misc]
