"""Floating point operations of a training step, counted on tensors without numbers.

A multiplication with an addition counts 2. Only matrix products, convolutions and attention count. Elementwise
operations, sums and sorting do not, nor do operators from outside PyTorch, such as a rasteriser.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode, flop_registry

from openrayzer.composer import load_experiment
from openrayzer.interfaces import InputError, Model, Objective
from openrayzer.planning.clip_shapes import clip_shapes, empty_views
from openrayzer.settings import Experiment
from openrayzer.types import Views
from openrayzer.weights.run_layout import EXPERIMENT

BACKWARD_COST = 2
"""Cost of the backward pass in forward passes: the gradients of the weights and of the activations."""


@dataclass(frozen=True)
class Flops:
    """Operations of training, without losses and recomputed activations.

    Attributes:
        clip: operations of the forward pass of one clip.
        step: operations of one optimizer step over all ranks, forward and backward.
        num_context: number of context views of the clip.
        num_target: number of target views of the clip.
    """

    clip: int
    step: int
    num_context: int
    num_target: int


def count_flops(experiment: Experiment) -> Flops:
    """Count the operations of an experiment on the meta device, for the largest clip of its view sampler.

    Samplers and models may come from plugins and raise any exception.

    Raises:
        InputError: the sampler chooses no views without the data.
    """
    shape = clip_shapes(experiment.data.view_sampler, steps=experiment.train.steps)[-1]
    with torch.device("meta"):
        views = empty_views(shape, experiment.data.image_size)
    clip = forward_flops(experiment.model, views, objective=experiment.train.objective)
    step = clip * (1 + BACKWARD_COST) * experiment.train.batch_size
    return Flops(clip, step, shape.context, shape.target)


def forward_flops(model: Model, views: Views, *, objective: Objective | None = None) -> int:
    """Operations of one forward pass, by ``objective`` if there is one. On ``meta`` this computes nothing."""
    with torch.no_grad(), torch.device(views.images.device), FlopCounterMode(display=False) as counter:
        model(views) if objective is None else objective(model, views)
    return counter.get_total_flops()


def flops_of(operation: Any, arguments: tuple[Any, ...], named: dict[str, Any], result: Any) -> int:
    """Floating point operations of one operator call as torch dispatches it; 0 if there is no formula for it."""
    packet = operation._overloadpacket
    if packet == torch.ops.aten._scaled_dot_product_flash_attention_for_cpu:
        return _attention(*arguments[:3])
    if packet == torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward:
        return _attention_backward(*arguments[1:4])
    count = flop_registry.get(packet)
    return 0 if count is None else count(*arguments, **named, out_val=result)


def _attention(query: Tensor, key: Tensor, value: Tensor) -> int:
    """Two products: the scores, and the scores times the values."""
    rows, columns = query.shape[:-1].numel(), key.shape[-2]
    return 2 * rows * columns * (query.shape[-1] + value.shape[-1])


def _attention_backward(query: Tensor, key: Tensor, value: Tensor) -> int:
    """Five products: the scores, their gradient, and the gradients of queries, keys and values."""
    rows, columns = query.shape[:-1].numel(), key.shape[-2]
    return 2 * rows * columns * (3 * query.shape[-1] + 2 * value.shape[-1])


def step_flops(run: Path) -> float:
    """Floating point operations of one optimizer step of the run in a folder. This computes nothing.

    Raises:
        InputError: the experiment of the run cannot be built here, or its clips are unknown without the data.
    """
    try:
        planned = load_experiment(run / EXPERIMENT)
        with torch.device("meta"):
            return float(count_flops(planned.build()).step)
    except InputError:
        raise
    except Exception as error:  # plugins may raise anything, and a comparison works without this number
        first_line = str(error).partition("\n")[0]
        raise InputError(f"{type(error).__name__}: {first_line}") from error
