"""Cost of a training step and of a rendered frame for growing views, resolution and width, counted and measured."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import log
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from openrayzer.benchmarks.matmul_speed import Product, StepWork, step_work
from openrayzer.benchmarks.timing import time_in_turn
from openrayzer.composer import load_experiment
from openrayzer.interfaces import InputError, Model
from openrayzer.machine.live_bytes import LiveBytes
from openrayzer.planning.clip_shapes import ClipShape, clip_shapes, empty_views
from openrayzer.planning.trace import Device, trace_frame, trace_micro_batch
from openrayzer.types import Cameras

VIEWS = (2, 4, 8, 16, 32, 64)
"""Numbers of views; half of them are context views, half target views."""
SIDES = (64, 128, 256, 512)
HEAD_WIDTH = 64
WIDTHS = (192, 384, 768)


@dataclass(frozen=True)
class Measured:
    """Measured under autocast to bfloat16: the minimum of three times, and peak memory.

    Attributes:
        step_seconds: seconds of a forward and backward pass.
        step_bytes: peak bytes of such a step, without weights and gradients.
        frame_seconds: seconds of one frame of a prepared scene.
        frame_bytes: peak bytes of such a frame, without scene and weights.
    """

    step_seconds: float
    step_bytes: int
    frame_seconds: float
    frame_bytes: int


@dataclass(frozen=True)
class Cost:
    """Cost of one clip at one size.

    Attributes:
        axis: the axis that grows: "views", "resolution" or "width".
        size: size on this axis.
        step_flops: floating point operations of a forward and backward pass.
        attention_share: share of attention in them, from 0 to 1. Attention grows with the square of the tokens.
        frame_flops: floating point operations of one frame of a prepared scene.
        step_bytes: counted peak bytes of a step with fused attention, without weights and gradients.
        frame_bytes: counted peak bytes of one frame, without scene and weights.
        measured: measurements with attention ``auto``; None for a step above the limit.
    """

    axis: str
    size: int
    step_flops: int
    attention_share: float
    frame_flops: int
    step_bytes: int
    frame_bytes: int
    measured: Measured | None


def curves(experiment: Path, *, overrides: Sequence[str], limit: float) -> Iterator[Cost]:
    """Vary one axis at a time; the experiment sets the other values. The batch is one clip.

    Args:
        experiment: experiment file with the width under ``shared``, like all files of this repository.
        overrides: changes of the experiment, as ``--set`` takes them.
        limit: largest FLOP of a step that is measured; larger steps are only counted.

    Raises:
        InputError: a size does not fit the experiment.
    """
    axes = {
        "views": {size: [_views(size)] for size in VIEWS},
        "resolution": {size: [f"data.image_size=[{size}, {size}]"] for size in SIDES},
        "width": {size: [f"shared.width={size}", f"shared.num_heads={size // HEAD_WIDTH}"] for size in WIDTHS},
    }
    for axis, sizes in axes.items():
        for size, change in sizes.items():
            yield _cost(experiment, [*overrides, *change], axis, size, limit)


def _views(count: int) -> str:
    return f'data.view_sampler={{"type": "even", "num_context": {count // 2}, "num_target": {count // 2}}}'


def _cost(experiment: Path, changes: list[str], axis: str, size: int, limit: float) -> Cost:
    planned = load_experiment(experiment, overrides=[*changes, 'model.attention={"type": "reference"}'])
    with torch.device("meta"):
        built = planned.build()
        traced = load_experiment(experiment, overrides=changes).build().model
    shape, image_size = clip_shapes(built.data.view_sampler, steps=1)[-1], built.data.image_size
    step = step_work(built.model, shape, image_size, batch=1)
    frame = _frame_flops(built.model, shape, image_size)
    device: Device = "cuda" if torch.cuda.is_available() else "cpu"
    step_bytes = trace_micro_batch(traced, shape, image_size, batch=1, bf16=True, device=device).peak
    frame_bytes = trace_frame(traced, shape, image_size, bf16=True, device=device)
    measured = None if step.flops > limit else _measured(experiment, changes, shape)
    return Cost(axis, size, step.flops, _attention(step), frame, step_bytes, frame_bytes, measured)


def _attention(work: StepWork) -> float:
    """Share of attention in the operations; its products are the ones with a batch axis."""
    batched = sum(product.flops * count for product, count in work.products.items() if _is_batched(product))
    return batched / work.flops


def _is_batched(product: Product) -> bool:
    return len(product.sizes[0]) == 3


def _frame_flops(model: Model, shape: ClipShape, image_size: tuple[int, int]) -> int:
    with torch.device("meta"), torch.no_grad():
        views = empty_views(shape, image_size)
        scene = model.prepare(model.reconstruct(views.context_images, _cameras(views.cameras, shape.context)))
        with FlopCounterMode(display=False) as counter:
            model.render(scene, _cameras(views.cameras, 1))
    return counter.get_total_flops()


def _measured(experiment: Path, changes: list[str], shape: ClipShape) -> Measured:
    built = load_experiment(experiment, overrides=changes).build()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model, views = built.model.to(device).train(), empty_views(shape, built.data.image_size).to(device)

    def step() -> None:
        with torch.autocast(device.type, torch.bfloat16):
            prediction = model(views)
        (prediction.images.float() - views.target_images).square().mean().backward()

    step_seconds = time_in_turn({"step": step}, rounds=3, device=device)["step"].minimum
    with LiveBytes() as in_step:  # after the timing, so that the gradients exist and do not count
        step()
    model.eval()
    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16):
        scene = model.prepare(model.reconstruct(views.context_images, _cameras(views.cameras, shape.context)))
        one = _cameras(views.cameras, 1)
        frame = {"frame": lambda: model.render(scene, one)}
        frame_seconds = time_in_turn(frame, rounds=3, device=device)["frame"].minimum
        with LiveBytes() as in_frame:
            model.render(scene, one)
    return Measured(step_seconds, in_step.peak, frame_seconds, in_frame.peak)


def _cameras(cameras: Cameras | None, count: int) -> Cameras:
    if cameras is None:
        raise InputError("counting needs clips with cameras")
    return Cameras(cameras.c2w[:, :count], cameras.intrinsics[:, :count])


def table(costs: Sequence[Cost]) -> Iterator[str]:
    """One line per size. The exponent compares with the size before: 1 is linear growth, 2 is quadratic."""
    yield (
        f"{'':<18}{'':38}{'in use, MiB: counted, measured':>46}{'measured, ms':>21}\n"
        f"{'axis':<12}{'size':>6}{'step GFLOP':>12}{'attention':>10}{'exponent':>9}{'frame':>9}"
        f"{'step':>11}{'':>11}{'frame':>11}{'':>11}{'step':>12}{'frame':>9}"
    )
    before: Cost | None = None
    for cost in costs:
        exponent = ""
        if before is not None and before.axis == cost.axis:
            exponent = f"{_exponent(before, cost):.2f}"
        found, missing = cost.measured, "-"
        yield (
            f"{cost.axis:<12}{cost.size:>6}{cost.step_flops / 1e9:>12.2f}{100 * cost.attention_share:>8.1f} %"
            f"{exponent:>9}{cost.frame_flops / 1e9:>9.3f}"
            f"{_mib(cost.step_bytes):>11}{_mib(found.step_bytes) if found else missing:>11}"
            f"{_mib(cost.frame_bytes):>11}{_mib(found.frame_bytes) if found else missing:>11}"
            f"{f'{found.step_seconds * 1e3:.1f}' if found else missing:>12}"
            f"{f'{found.frame_seconds * 1e3:.1f}' if found else missing:>9}"
        )
        before = cost


def _mib(count: int) -> str:
    return f"{count / 2**20:,.1f}"


def _exponent(before: Cost, cost: Cost) -> float:
    return log(cost.step_flops / before.step_flops) / log(cost.size / before.size)
