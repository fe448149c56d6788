"""Time of DeepSpeed's communication between GPUs, from the rates of their links."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from openrayzer.interfaces import InputError
from openrayzer.planning.gpu_rates import Gpu
from openrayzer.planning.memory import FLOAT, sent_bytes

LINK_SHARE = 0.8
"""Share of a link's rate that large NCCL collectives reach; an assumption."""
HIDING = 2 / 3
"""Share of a micro-batch that is the backward pass, behind which ``overlap_comm`` hides the sums of gradients."""


@dataclass(frozen=True)
class Machines:
    """The GPUs of a run and their links.

    Attributes:
        gpu: one of the GPUs.
        gpus: number of GPUs.
        per_node: number of GPUs of a node.
        network: bytes a second in one direction between nodes, for each GPU.
    """

    gpu: Gpu
    gpus: int
    per_node: int = 8
    network: float = 50e9

    def __post_init__(self) -> None:
        if min(self.gpus, self.per_node) < 1 or self.network <= 0:
            raise InputError("the numbers of GPUs must be 1 or more, and the rate of the network above 0")

    @property
    def nodes(self) -> int:
        """Number of nodes."""
        return math.ceil(self.gpus / self.per_node)

    @property
    def rate(self) -> float:
        """Bytes a second that each GPU sends and receives in a collective of all GPUs: the rate of the slowest link."""
        return self.rate_among(self.gpus)

    def rate_among(self, gpus: int) -> float:
        """``rate`` of a collective of ``gpus`` consecutive GPUs. The number divides ``per_node`` or exceeds it."""
        return LINK_SHARE * (self.gpu.link if gpus <= self.per_node else min(self.gpu.link, self.network))


@dataclass(frozen=True)
class Communication:
    """Seconds of communication in one optimizer step.

    Attributes:
        gradients: sums of gradients, during the backward passes.
        weights: gathering of weights, while computation waits.
    """

    gradients: float
    weights: float

    def waited(self, micro_batch: float, *, micro_batches: int, overlap: bool) -> float:
        """Seconds for which computation waits.

        Args:
            micro_batch: seconds of computation of one micro-batch.
            micro_batches: number of micro-batches of a step.
            overlap: whether gradients travel behind the backward passes.
        """
        hidden = HIDING * micro_batch * micro_batches if overlap else 0.0
        return self.weights + max(0.0, self.gradients - hidden)


def communication(
    model: nn.Module, deepspeed: Mapping[str, Any], machines: Machines, *, stage: int, micro_batches: int
) -> Communication:
    """Communication of one optimizer step.

    A collective of n GPUs moves (n - 1) / n of its bytes through the link of each GPU, and an all-reduce moves twice as
    many. Stages 1 and 2 all-reduce the gradients, stage 1 once a step and stage 2 once a micro-batch; each GPU then
    keeps its part. Stage 3 sums the gradients of every micro-batch by reduce-scatter. Stages 1 and 2 gather the weights
    once a step; stage 3 gathers them in the forward and in the backward pass of every micro-batch.

    Args:
        model: on any device.
        deepspeed: DeepSpeed's configuration.
        machines: the GPUs.
        stage: ZeRO stage.
        micro_batches: number of micro-batches of a step.

    Source: Rajbhandari et al. 2020, "ZeRO", section 7; Patarasuk and Yuan 2009, "Bandwidth optimal all-reduce
    algorithms for clusters of workstations"; DeepSpeed 0.19.8, ``average_tensor`` of zero/stage_1_and_2.py, with the
    default ``use_multi_rank_bucket_allreduce``.
    """
    share = (machines.gpus - 1) / machines.gpus / machines.rate
    width = 2 if deepspeed.get("bf16", {}).get("enabled", False) else FLOAT
    weights = width * sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    sums = {1: 2, 2: 2 * micro_batches, 3: micro_batches}[stage]
    gathers = 2 * micro_batches if stage == 3 else 1
    return Communication(share * sums * sent_bytes(model, deepspeed), share * gathers * weights)
