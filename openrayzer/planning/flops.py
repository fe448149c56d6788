"""Floating point operations of a training step, counted on tensors without content.

A multiplication with addition counts 2. Counted are matrix products, convolutions and attention; what works on single
numbers is left out, as is usual.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop, sdpa_flop

from openrayzer.interfaces import Model
from openrayzer.planning.clip_shapes import clip_shapes, empty_views
from openrayzer.settings import Experiment
from openrayzer.types import Views

BACKWARD_COST = 2  # times the forward: gradients of the weights and of the activations
_FUSED_ON_CPU: dict[Any, Any] = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: sdpa_flop,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: sdpa_backward_flop,
}
"""Fused attention of CPUs, which torch's own table leaves out."""


@dataclass(frozen=True)
class Flops:
    """What training costs, without losses and recomputed activations.

    Attributes:
        clip: operations of one clip forward.
        step: of one optimizer step over all ranks, forward and backward.
        num_context: context views of the clip that was counted.
        num_target: its target views.
    """

    clip: int
    step: int
    num_context: int
    num_target: int


def count_flops(experiment: Experiment) -> Flops:
    """Count for an experiment built on the meta device, for the largest clip that its view sampler makes.

    Samplers and models may be foreign code and raise anything.

    Raises:
        InputError: the sampler makes no clips without the data.
    """
    shape = clip_shapes(experiment.data.view_sampler, steps=experiment.train.steps)[-1]
    with torch.device("meta"):
        views = empty_views(shape, experiment.data.image_size)
    clip = forward_flops(experiment.model, views)
    step = clip * (1 + BACKWARD_COST) * experiment.train.batch_size
    return Flops(clip, step, shape.context, shape.target)


def forward_flops(model: Model, views: Views) -> int:
    """Operations of one forward. Model and views may be on ``meta``, where nothing is computed."""
    with torch.no_grad(), torch.device(views.images.device), flop_counter() as counter:
        model(views)
    return counter.get_total_flops()


def flop_counter() -> FlopCounterMode:
    """Counts while its ``with`` block runs; ``get_total_flops`` says how many so far."""
    return FlopCounterMode(display=False, custom_mapping=_FUSED_ON_CPU)
