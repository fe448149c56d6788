"""Statistics of weights, gradients and activations of every module, for statistics.jsonl."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from openrayzer.training.compiling import uncompiled
from openrayzer.training.engine import Engine
from openrayzer.training.logs.loggers import Jsonl

Numbers = dict[str, float]


class ValueSummary:
    """RMS, largest magnitude and number of values that are not finite, over many tensors of one module."""

    def __init__(self) -> None:
        self._parts: list[Tensor] = []  # each (sum of squares, count, largest, not finite), on the device

    def add(self, values: Tensor) -> None:
        """Add the values of a tensor."""
        values = values.detach().float()
        good = torch.isfinite(values)
        safe = torch.where(good, values, 0.0)
        largest = safe.abs().amax() if values.numel() else values.new_zeros(())
        count = good.sum()  # an integer: in float32 one NaN among 2^24 values would be lost
        parts = (safe.square().sum(), count, largest, values.numel() - count)
        self._parts.append(torch.stack([part.double() for part in parts]))

    def numbers(self) -> list[float]:
        """Sum of squares, count of finite values, largest magnitude, count of values that are not finite."""
        parts = torch.stack(self._parts).cpu()
        return [float(parts[:, 0].sum()), float(parts[:, 1].sum()), float(parts[:, 2].max()), float(parts[:, 3].sum())]


class Statistics:
    """Statistics of single optimizer steps, for modules that have weights of their own.

    Values that are not finite are counted, and the other numbers leave them out. Activations are the tensors that a
    module returns. Gradients are those of the whole step, over all processes and micro-batches, before clipping.
    Weights are those before the step.

    Args:
        engine: the model in training.
        logger: an open logger on rank 0; None on other ranks.
    """

    def __init__(self, engine: Engine, logger: Jsonl | None) -> None:
        self._engine, self._logger = engine, logger
        self._activations: dict[str, ValueSummary] = {}
        self._line: dict[str, Any] = {}

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Collect activations of the forward passes in the ``with`` block, then write the line."""
        self._activations, self._line = {}, {}
        hooks = [
            module.register_forward_hook(self._hook(name))
            for name, module in self._engine.model.named_modules()
            if name and any(True for _ in module.parameters(recurse=False))
        ]
        try:
            with uncompiled(self._engine.compiled):
                yield
        finally:
            for hook in hooks:
                hook.remove()
        self._write()

    def take_gradients(self) -> None:
        """Collect gradients and weights. All processes call this between the last backward pass and the step."""
        from deepspeed.utils import safe_get_full_grad

        gradients: dict[str, ValueSummary] = {}
        for name, weight in self._engine.model.named_parameters():
            gradient = safe_get_full_grad(weight) if weight.requires_grad else None
            if gradient is not None:
                gradients.setdefault(_module_of(name), ValueSummary()).add(gradient)
        weights: dict[str, ValueSummary] = {}
        partition = self._engine.partition
        for stretches, flat in zip(partition.layout(), partition.weights, strict=True):
            for stretch in stretches:
                name = _module_of(stretch.name.removeprefix("model."))
                weights.setdefault(name, ValueSummary()).add(flat.narrow(0, stretch.offset, stretch.numel))
        self._line = {"step": self._engine.steps + 1, "gradients": _table([_numbers(gradients)])}
        self._line["weights"] = _table(self._engine.process.gather(_numbers(weights)))

    def _hook(self, name: str) -> Any:
        def count(module: nn.Module, given: Any, result: Any) -> None:
            for value in result if isinstance(result, tuple) else (result,):
                if isinstance(value, Tensor) and value.is_floating_point():
                    self._activations.setdefault(name, ValueSummary()).add(value)

        return count

    def _write(self) -> None:
        self._line["activations"] = _table(self._engine.process.gather(_numbers(self._activations)))
        if self._logger is not None:
            self._logger.record(self._line)


def _module_of(weight: str) -> str:
    return weight.rpartition(".")[0]


def _numbers(summaries: Mapping[str, ValueSummary]) -> dict[str, list[float]]:
    return {name: summary.numbers() for name, summary in summaries.items()}


def _table(parts: list[dict[str, list[float]]]) -> dict[str, Numbers]:
    """One row per module, over all processes."""
    names = dict.fromkeys(name for part in parts for name in part)
    table = {}
    for name in names:
        squares, counts, largest, bad = zip(*(part[name] for part in parts if name in part), strict=True)
        rms = math.sqrt(sum(squares) / max(1.0, sum(counts)))
        table[name] = {"rms": rms, "max": max(largest), "not_finite": sum(bad), "count": sum(counts)}
    return table
