"""Speed of each rasteriser, forward alone and with the backward pass, beside its difference from "torch"."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from openrayzer.benchmarks.timing import Clock, Timing, time_in_turn
from openrayzer.geometry.rays import pixel_grid
from openrayzer.interfaces import RASTERISERS, Gaussians, InputError, Rasteriser
from openrayzer.types import Cameras

CONTEXTS = 3
"""Number of context views whose pixels have one Gaussian each."""

FOCAL, DEPTH, SCALE, OPACITY = 1.25, (4.0, 0.65), 0.05, 0.12
"""Focal length in image sides, mean and spread of depths, median scale and opacity, as at the start of E-RayZer."""

SPREAD, HARMONICS = 0.5, 0.56
"""Standard deviations of the logarithms of scales, of the logits of opacities, and of the harmonics."""


@dataclass(frozen=True)
class Rasterising:
    """Measurements of one rasteriser.

    Attributes:
        name: registered name.
        gaussians: number of Gaussians of each scene.
        refusal: reason why it cannot run here; the measurements are then None.
        forward: seconds of all views of all scenes.
        step: seconds of the same with the backward pass.
        difference: largest difference of a pixel from "torch".
        gradient: largest difference of a gradient from "torch", relative to the largest entry of the tensor.
    """

    name: str
    gaussians: int
    refusal: str
    forward: Timing | None = None
    step: Timing | None = None
    difference: float | None = None
    gradient: float | None = None


def measure_rasterisers(
    gaussians: Sequence[int],
    *,
    size: int = 64,
    targets: int = 3,
    batch: int = 8,
    rounds: int = 3,
    clock: Clock,
) -> list[Rasterising]:
    """Time every rasteriser, except "auto", on scenes like those at the start of the training of E-RayZer.

    Args:
        gaussians: numbers of Gaussians of each of the context views, square numbers.
        size: side of the images in pixels.
        targets: views of each scene.
        batch: number of scenes.
        rounds: number of measured rounds.
        clock: see ``time_in_turn``.

    Raises:
        InputError: a number is below 1, or a number of Gaussians is not a square.
    """
    if min(*gaussians, size, targets, batch, rounds) < 1:
        raise InputError("gaussians, image side, targets, batch and rounds must be 1 or more")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    found = []
    for number in gaussians:
        scenes, cameras = initial_scenes(number, targets=targets, batch=batch)
        tensors = [part.to(device).requires_grad_() for part in (*vars(scenes).values(), *vars(cameras).values())]
        found += _compare(tensors, (size, size), rounds=rounds, device=device, clock=clock)
    return found


def initial_scenes(gaussians: int, *, targets: int, batch: int) -> tuple[Gaussians, Cameras]:
    """Random Gaussians along the rays of the pixels of ``CONTEXTS`` views, and cameras in a row.

    Args:
        gaussians: number of Gaussians of each context view, a square number.
        targets: number of cameras.
        batch: number of scenes.

    Raises:
        InputError: ``gaussians`` is not a square.
    """
    side = math.isqrt(gaussians)
    if side * side != gaussians:
        raise InputError(f"the number of Gaussians of a view must be a square, such as 1024 or 4096; got {gaussians}")
    generator = torch.Generator().manual_seed(0)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    k = CONTEXTS * gaussians
    slopes = (pixel_grid((side, side), like=drawn(1)).flatten(0, 1) - 0.5) / FOCAL
    rays = torch.nn.functional.normalize(torch.cat([slopes, torch.ones(gaussians, 1)], dim=1), dim=1)
    origins = torch.zeros(batch, CONTEXTS, 1, 3)
    origins[..., 0] = torch.linspace(-0.1, 0.1, CONTEXTS)[:, None]
    scenes = Gaussians(
        means=(origins + (DEPTH[0] + DEPTH[1] * drawn(batch, CONTEXTS, gaussians, 1)) * rays).flatten(1, 2),
        scales=SCALE * (SPREAD * drawn(batch, k, 3)).exp(),
        rotations=drawn(batch, k, 4),
        opacities=torch.sigmoid(math.log(OPACITY / (1 - OPACITY)) + SPREAD * drawn(batch, k)),
        harmonics=HARMONICS * drawn(batch, k, 16, 3),
    )
    c2w = torch.eye(4).repeat(batch, targets, 1, 1)
    c2w[..., 0, 3] = torch.linspace(-0.1, 0.1, targets)
    return scenes, Cameras(c2w, torch.tensor([FOCAL, FOCAL, 0.5, 0.5]).repeat(batch, targets, 1))


def _compare(
    tensors: Sequence[Tensor], size: tuple[int, int], *, rounds: int, device: torch.device, clock: Clock
) -> list[Rasterising]:
    rasterisers = {entry.name: entry.target() for entry in RASTERISERS if entry.name != "auto"}
    refusals = {name: rasteriser.refusal(device) for name, rasteriser in rasterisers.items()}
    ways: dict[str, Callable[[], object]] = {}
    results = {}
    for name, refusal in refusals.items():
        if not refusal:
            work = _Work(rasterisers[name], tensors, size)
            ways[f"{name} forward"], ways[f"{name} step"], results[name] = work.forward, work.step, work.step()
    timings = time_in_turn(ways, rounds=rounds, device=device, clock=clock)
    found = []
    for name, refusal in refusals.items():
        k = tensors[0].shape[1]
        if refusal:
            found.append(Rasterising(name, k, refusal))
            continue
        (images, *gradients), (right, *right_gradients) = results[name], results["torch"]
        apart = [
            float((one - other).abs().max() / other.abs().max())
            for one, other in zip(gradients, right_gradients, strict=True)
        ]
        difference = float((images - right).abs().max())
        measured = timings[f"{name} forward"], timings[f"{name} step"]
        found.append(Rasterising(name, k, "", *measured, difference, max(apart)))
    return found


@dataclass(frozen=True)
class _Work:
    rasteriser: Rasteriser
    tensors: Sequence[Tensor]
    size: tuple[int, int]

    def images(self) -> Tensor:
        split = len(fields(Gaussians))
        cameras = Cameras(*self.tensors[split:])
        background = torch.ones_like(cameras.intrinsics[..., :3])
        return self.rasteriser.rasterise(
            Gaussians(*self.tensors[:split]), cameras, self.size, background=background
        ).images

    def forward(self) -> Tensor:
        with torch.no_grad():
            return self.images()

    def step(self) -> list[Tensor]:
        images = self.images()
        return [images.detach(), *torch.autograd.grad(images.square().mean(), self.tensors)]
