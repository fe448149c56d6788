"""One micro-batch of a full-size experiment on a GPU: its memory, counted and measured, and its time; as JSON.

    python tests/gpu/full_size.py EXPERIMENT [CHANGE ...]

It runs in a process of its own, whose allocator has seen nothing else.
"""

import json
import sys
from pathlib import Path
from statistics import median

import torch

sys.path.insert(0, str(Path(__file__).parents[2]))

from openrayzer.composer import load_experiment
from openrayzer.interfaces import Model
from openrayzer.planning.clip_shapes import ClipShape, clip_shapes, empty_views
from openrayzer.planning.trace import trace_micro_batch
from openrayzer.types import Views

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
ROUNDS = 5


def main(name: str, *changes: str) -> dict[str, float]:
    """Bytes beyond weights and gradients that the planner counts and the allocator held, and milliseconds."""
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


def noise(shape: ClipShape, size: tuple[int, int], device: torch.device) -> Views:
    """A clip of noise on the device."""
    views = empty_views(shape, size, batch=1).to(device)
    views.images.copy_(torch.rand(views.images.shape, generator=torch.Generator().manual_seed(0)))
    return views


def measured(model: Model, views: Views) -> tuple[int, float]:
    """Peak of the allocator beyond weights, gradients and the clip, and the median time of both passes."""
    for weight in model.parameters():
        weight.grad = torch.zeros_like(weight)
    clip = sum(value.numel() * value.element_size() for value in (views.images, views.frames))
    before = torch.cuda.memory_allocated() - clip
    times = []
    for _ in range(2 + ROUNDS):
        torch.cuda.reset_peak_memory_stats()
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        with torch.autocast("cuda", torch.bfloat16):
            prediction = model(views)
        prediction.images.float().mean().backward()
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end))
        peak = torch.cuda.max_memory_allocated() - before
        del prediction
    return peak, median(times[2:])


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))
