"""Speed of matrix products on a device: large square products, and the products of a model's training step."""

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from openrayzer.benchmarks.timing import Clock, time_in_turn
from openrayzer.interfaces import Model
from openrayzer.planning.clip_shapes import ClipShape, empty_views

_SIDES = {"cpu": 2048, "cuda": 8192}
"""Sides of square matrices that are large enough to reach a device's rate."""
_REPEAT = {"cpu": 1, "cuda": 10}
"""Calls of a product in one measurement, so that a GPU does not wait for the next call."""
_ATEN = torch.ops.aten
_FIRST_FACTOR: Mapping[Any, int] = {
    _ATEN.mm.default: 0,
    _ATEN.bmm.default: 0,
    _ATEN.addmm.default: 1,
    _ATEN.baddbmm.default: 1,
}
"""Operators that multiply matrices, and the position of the first factor among their arguments; the second follows."""


@dataclass(frozen=True)
class Product:
    """A matrix product, batched if its factors have three axes, with sizes and strides of both factors."""

    sizes: tuple[tuple[int, ...], tuple[int, ...]]
    strides: tuple[tuple[int, ...], tuple[int, ...]]

    @property
    def flops(self) -> int:
        """Floating point operations; a multiplication with an addition counts 2."""
        first, second = self.sizes
        return 2 * torch.Size(first).numel() * second[-1]

    def factors(self, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
        """Random factors with these sizes and strides."""
        first, second = (
            torch.empty_strided(size, stride, dtype=dtype, device=device).normal_()
            for size, stride in zip(self.sizes, self.strides, strict=True)
        )
        return first, second


@dataclass(frozen=True)
class StepWork:
    """Computation of one micro-batch, forward and backward.

    Attributes:
        flops: floating point operations of matrix products, convolutions and attention.
        products: the matrix products, and the number of times that each occurs.
    """

    flops: int
    products: Mapping[Product, int]


def step_work(model: Model, shape: ClipShape, image_size: tuple[int, int], *, batch: int) -> StepWork:
    """Count the computation of a micro-batch without computing it.

    Args:
        model: model on the ``meta`` device with attention ``reference``, which consists of matrix products.
        shape: numbers of views of a clip.
        image_size: height and width in pixels.
        batch: number of clips.
    """
    model.train()
    with torch.device("meta"), _Recorder() as recorder, FlopCounterMode(display=False) as counter:
        views = empty_views(shape, image_size, batch=batch)
        prediction = model(views)
        extra = sum(value.float() for value in prediction.extra_losses.values())
        (prediction.images.sum() + 0 * prediction.cameras.c2w.sum() + extra).backward()
    model.zero_grad()
    return StepWork(counter.get_total_flops(), dict(recorder.products))


def products_rate(
    products: Mapping[Product, int],
    *,
    device: torch.device,
    dtype: torch.dtype,
    rounds: int = 3,
    clock: Clock = time.perf_counter,
) -> float:
    """FLOP/s of the given matrix products alone, from the minimum time of several rounds.

    Each product is timed once and counts as often as it occurs.
    """
    seconds, flops = 0.0, 0
    for product, count in products.items():
        if not product.flops:
            continue
        run = {"product": _multiply(product, dtype, device)}
        repeat = _REPEAT[device.type]
        least = time_in_turn(run, rounds=rounds, device=device, repeat=repeat, clock=clock)["product"].minimum
        seconds, flops = seconds + count * least, flops + count * product.flops
    return flops / seconds


def square_rate(*, device: torch.device, dtype: torch.dtype, rounds: int = 5) -> float:
    """FLOP/s of one large square product, with sides of 2048 on a CPU and 8192 on a GPU."""
    side = _SIDES[device.type]
    square = Product(((side, side), (side, side)), ((side, 1), (side, 1)))
    return products_rate({square: 1}, device=device, dtype=dtype, rounds=rounds)


def _multiply(product: Product, dtype: torch.dtype, device: torch.device) -> Callable[[], Tensor]:
    first, second = product.factors(dtype, device)
    return lambda: first @ second


class _Recorder(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.products: Counter[Product] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        place = _FIRST_FACTOR.get(func)
        if place is not None:
            first, second = args[place], args[place + 1]
            sizes, strides = (tuple(first.shape), tuple(second.shape)), (first.stride(), second.stride())
            self.products[Product(sizes, strides)] += 1
        return func(*args, **(kwargs or {}))
