"""Repeating a skipped step from its dump, to find the first modules with values that are not finite."""

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from openrayzer.interfaces import InputError, Model, Objective
from openrayzer.layers.tf32 import tf32_products
from openrayzer.machine import random_state
from openrayzer.machine.autocast import autocast_to
from openrayzer.settings import LossTerm
from openrayzer.training.faults.bad_steps import FACTS, OBJECTIVE, read_views
from openrayzer.training.focal_warm_up import hold_focal_lengths
from openrayzer.training.weighted_loss import WeightedLoss
from openrayzer.types import Prediction, Views
from openrayzer.weights.checkpoints.manifest import rank_file
from openrayzer.weights.checkpoints.zero_checkpoint import UNREADABLE, why_unreadable
from openrayzer.weights.run_layout import EXPERIMENT
from openrayzer.weights.run_record import RUN
from openrayzer.weights.weight_folder import fill, read_weights

SAME = 0.02
"""Largest relative difference of a reproduced number. In bfloat16, sums in another order differ by that much."""


@dataclass(frozen=True)
class MicroBatch:
    """One micro-batch in the run and in the repetition.

    Attributes:
        rank: rank of its process in the run.
        scenes: names of its scenes.
        frames: frame numbers of each scene's views.
        recorded: its loss in the run.
        loss: its loss in the repetition.
        first_activation: the first module of the forward pass that returned a value that is not finite; empty if none.
        first_gradient: the first module of the backward pass whose output had a gradient that is not finite; empty if
            none.
    """

    rank: int
    scenes: tuple[str, ...]
    frames: list[list[int]]
    recorded: float
    loss: float
    first_activation: str
    first_gradient: str


@dataclass(frozen=True)
class Replayed:
    """A step in the run and in the repetition.

    Attributes:
        step: its number, counted from 1.
        reason: the reason why it was skipped.
        micro_batches: of all processes, by rank.
        recorded_norm: gradient norm in the run; not finite if the gradient was not.
        norm: gradient norm in the repetition.
        gradients: 2-norm of the gradient of each module with weights. Norms that are not finite come first, then the
            largest ones.
    """

    step: int
    reason: str
    micro_batches: tuple[MicroBatch, ...]
    recorded_norm: float
    norm: float
    gradients: dict[str, float]

    @property
    def same(self) -> bool:
        """Whether every loss and the gradient norm agree with the run, within ``SAME``."""
        pairs = [(one.recorded, one.loss) for one in self.micro_batches] + [(self.recorded_norm, self.norm)]
        return all(_close(then, now) for then, now in pairs)


def replay(
    dump: Path, *, model: Model, losses: Sequence[LossTerm], device: torch.device, objective: Objective | None = None
) -> Replayed:
    """Repeat the step, with the micro-batches of all its processes one after the other.

    Args:
        dump: a folder below ``bad_steps/`` of a run.
        model: the model of the dump with its weights, as ``openrayzer.load_model(dump)`` returns it; its
            gradients change.
        losses: the losses of the dump's experiment.
        objective: the objective of the dump's experiment; it receives its weights from the dump.
        device: device of the computation. Another kind of device than in the run rounds differently and draws other
            random numbers.

    Raises:
        InputError: ``dump`` is no dump, or one of its files cannot be read.
    """
    facts, record = _read(dump / FACTS), _read(dump / EXPERIMENT)
    settings = record.get(RUN, {}).get("deepspeed", {})
    pure = bool(settings.get("bf16", {}).get("enabled"))
    dtype = torch.bfloat16 if pure or settings.get("torch_autocast", {}).get("enabled") else None
    model = model.to(device, torch.bfloat16 if pure else None).train()
    tf32 = dtype is not None and record.get("train", {}).get("tf32", True)
    held = facts["step"] < record.get("train", {}).get("focal_detached_steps", 0)
    hold_focal_lengths(model, held=lambda: held)
    weighted = WeightedLoss(losses).to(device)
    if objective is not None and objective.state_dict():
        fill(objective, read_weights(dump / OBJECTIVE), source=dump / OBJECTIVE)
    predict = model if objective is None else partial(objective.to(device), model)
    ranks = [_read_rank(dump, rank) for rank in range(facts["world_size"])]
    count = sum(len(content["losses"]) for content in ranks)
    micro_batches = []
    for rank, content in enumerate(ranks):
        if content["random"]:
            random_state.restore(content["random"])
        for plain, recorded in zip(content["micro_batches"], content["losses"], strict=True):
            views = read_views(plain)
            with tf32_products(tf32):
                with _watched(model) as seen:
                    loss = _loss(predict, weighted, views.to(device), step=facts["step"], dtype=dtype)
                (loss / count).backward()
            now = float(loss.detach())
            frames = views.frames.tolist()
            micro_batches.append(
                MicroBatch(rank, views.scenes, frames, recorded, now, seen.first_activation, seen.first_gradient)
            )
    weights = dict(model.named_parameters())
    if objective is not None:
        weights.update(objective.named_parameters(prefix="objective"))
    gradients = _gradients(weights)
    norm = math.hypot(*gradients.values())
    return Replayed(
        facts["step"] + 1, facts["reason"], tuple(micro_batches), _number(facts["grad_norm"]), norm, gradients
    )


@dataclass
class _Seen:
    """The first modules with values that are not finite, in a forward pass and in its backward pass."""

    first_activation: str = ""
    first_gradient: str = ""


@contextmanager
def _watched(model: nn.Module) -> Iterator[_Seen]:
    """Check the outputs of all modules in the ``with`` block, and later the gradients of these outputs."""
    seen = _Seen()

    def hook(name: str) -> Any:
        def look_back(gradient: Tensor) -> None:
            if not seen.first_gradient and not gradient.isfinite().all():
                seen.first_gradient = name

        def look(module: nn.Module, given: Any, result: Any) -> None:
            for value in _tensors(result):
                if not seen.first_activation and not value.isfinite().all():
                    seen.first_activation = name
                if value.requires_grad:
                    value.register_hook(look_back)

        return look

    hooks = [module.register_forward_hook(hook(name)) for name, module in model.named_modules() if name]
    try:
        yield seen
    finally:
        for one in hooks:
            one.remove()


def _tensors(result: Any) -> Iterator[Tensor]:
    if isinstance(result, Tensor):
        if result.is_floating_point():
            yield result
    elif isinstance(result, tuple | list):
        for item in result:
            yield from _tensors(item)
    elif is_dataclass(result):
        for one in fields(result):
            yield from _tensors(getattr(result, one.name))


def _loss(
    predict: Callable[[Views], Prediction],
    weighted: WeightedLoss,
    views: Views,
    *,
    step: int,
    dtype: torch.dtype | None,
) -> Tensor:
    with autocast_to(views.images.device.type, dtype):
        prediction = predict(views)
    return weighted(prediction.images, views.target_images, step=step, extra=prediction.extra_losses)["loss"]


def _gradients(weights: Mapping[str, nn.Parameter]) -> dict[str, float]:
    squares: dict[str, float] = {}
    for name, weight in weights.items():
        if weight.grad is not None:
            module = name.rpartition(".")[0]
            squares[module] = squares.get(module, 0.0) + float(weight.grad.float().square().sum())
    norms = {name: math.sqrt(value) for name, value in squares.items()}
    return dict(sorted(norms.items(), key=lambda item: (math.isfinite(item[1]), -item[1])))


def _close(then: float, now: float) -> bool:
    if not (math.isfinite(then) and math.isfinite(now)):
        return math.isfinite(then) == math.isfinite(now)
    return abs(then - now) <= SAME * max(abs(then), abs(now))


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)


def _read(file: Path) -> dict[str, Any]:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{file.parent} is no dump of a step: {file.name} cannot be read: {error}") from error


def _read_rank(dump: Path, rank: int) -> dict[str, Any]:
    file = dump / rank_file(rank)
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except UNREADABLE as error:
        raise InputError(f"{file} cannot be read: {why_unreadable(error)}") from error
