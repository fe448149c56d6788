"""Counted and measured memory, and the time, of one micro-batch of a full-size experiment on a GPU, as JSON.

    python tests/gpu/full_size.py EXPERIMENT [CHANGE ...]
    python tests/gpu/full_size.py --launches EXPERIMENT [CHANGE ...]

With ``--launches`` the script counts the kernels of a micro-batch with compiled blocks, and the products among them.
It is a script so that the allocator of its process holds nothing else.
"""

import json
import sys
from pathlib import Path
from statistics import median

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

sys.path.insert(0, str(Path(__file__).parents[2]))

from openrayzer.composer import load_experiment
from openrayzer.interfaces import Model
from openrayzer.planning.clip_shapes import ClipShape, clip_shapes, empty_views
from openrayzer.planning.trace import trace_micro_batch
from openrayzer.training.compiling import compile_blocks
from openrayzer.types import Views

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
ROUNDS = 5


def main(name: str, *changes: str) -> dict[str, float]:
    """Peak bytes without weights and gradients, from the planner and from the allocator, and milliseconds."""
    plan = load_experiment(EXPERIMENTS / f"{name}.json", overrides=['loss=[{"loss": {"type": "mse"}}]', *changes])
    with torch.device("meta"):
        planned = plan.build()
    size = planned.data.image_size
    shape = clip_shapes(planned.data.view_sampler, steps=planned.train.steps)[-1]
    counted = trace_micro_batch(planned.model, shape, size, batch=1, bf16=True)
    device = torch.device("cuda", 0)
    torch.cuda.set_device(device)
    model = plan.build().model.to(device).train()
    held, milliseconds = measured(model, noise(shape, size, device))
    return {"planned": counted.peak, "allocated": held, "milliseconds": milliseconds, "flops": counted.total}


def launches(name: str, *changes: str) -> dict[str, int]:
    """Numbers of kernels and of products in the third micro-batch of a model with compiled blocks."""
    plan = load_experiment(EXPERIMENTS / f"{name}.json", overrides=['loss=[{"loss": {"type": "mse"}}]', *changes])
    experiment, device = plan.build(), torch.device("cuda", 0)
    torch.cuda.set_device(device)
    model = experiment.model.to(device).train()
    compile_blocks(model)
    shape = clip_shapes(experiment.data.view_sampler, steps=experiment.train.steps)[-1]
    views = noise(shape, experiment.data.image_size, device)
    for _ in range(2):
        micro_batch(model, views)
    model.zero_grad(set_to_none=True)  # as after DeepSpeed's backward
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiler:
        micro_batch(model, views)
        torch.cuda.synchronize()
    events = list(profiler.events())
    kernels = [event for event in events if event.device_type == DeviceType.CUDA and not event.name.startswith("Mem")]
    products = [event for event in events if event.name in ("aten::mm", "aten::addmm", "aten::bmm")]
    return {"kernels": len(kernels), "products": len(products)}


def micro_batch(model: Model, views: Views) -> None:
    """One forward and backward pass."""
    with torch.autocast("cuda", torch.bfloat16):
        prediction = model(views)
    prediction.images.float().mean().backward()


def noise(shape: ClipShape, size: tuple[int, int], device: torch.device) -> Views:
    """A clip of noise on a device."""
    views = empty_views(shape, size, batch=1).to(device)
    views.images.copy_(torch.rand(views.images.shape, generator=torch.Generator().manual_seed(0)))
    return views


def measured(model: Model, views: Views) -> tuple[int, float]:
    """Peak of the allocator without weights, gradients and the clip, and the median time of both passes."""
    for weight in model.parameters():
        weight.grad = torch.zeros_like(weight)
    clip = sum(value.numel() * value.element_size() for value in (views.images, views.frames))
    before = torch.cuda.memory_allocated() - clip
    times = []
    for _ in range(2 + ROUNDS):
        torch.cuda.reset_peak_memory_stats()
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        micro_batch(model, views)
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end))
        peak = torch.cuda.max_memory_allocated() - before
    return peak, median(times[2:])


if __name__ == "__main__":
    counted = sys.argv[1] == "--launches"
    print(json.dumps(launches(*sys.argv[2:]) if counted else main(*sys.argv[1:])))
