"""Sequence parallelism: the clips of processes that share them, and their exchange of tensors.

The exchange is an operator of ``deepspeed.sequence``, which ``torch.compile`` can differentiate. ``layers.view_shares``
uses it for the tensors of a model. The rest of DeepSpeed's sequence parallelism does not fit here:
``DistributedAttention`` sends queries, keys and values one by one; ``deepspeed.runtime.sequence_parallel`` wraps models
and data loaders of the library transformers; and the process groups of its engine change the mean of the gradients.
"""

from collections.abc import Generator, Iterator
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from openrayzer.layers.view_shares import UNSHARED, ViewShares
from openrayzer.machine.distributed import Process
from openrayzer.types import Views


def shares_of(process: Process) -> ViewShares:
    """The share of this process in the views of its clips."""
    if process.clip_size == 1:
        return UNSHARED
    from deepspeed.sequence.layer import register_all_to_all_group

    group = register_all_to_all_group(process.clip_group)

    def exchange(rows: Float[Tensor, "processes ..."]) -> Float[Tensor, "processes ..."]:
        return torch.ops.deepspeed.dim_zero_all_to_all(rows.contiguous(), group)

    return ViewShares(process.clip_size, process.rank % process.clip_size, exchange)


def same_clips(batches: Iterator[Views], process: Process) -> Generator[Views, None, None]:
    """``batches``, with the same clips on all processes that share clips. All processes must iterate.

    A process that cannot read a scene replaces it by the next one. If another process can read this scene, for example
    because only one machine has a faulty disk, their batches differ. Then all take the batch of the first process, with
    the ``problems`` of all.
    """
    size = process.clip_size
    for views in batches:
        everywhere = process.gather((views.scenes, views.problems))
        groups = [everywhere[first : first + size] for first in range(0, process.world_size, size)]
        differs = [len(set(group)) > 1 for group in groups]
        if any(differs):
            mine = differs[process.clip_number]
            sent = process.gather(views.to("cpu") if mine and process.leads_clip else None)
            if mine:
                shared = sent[process.clip_number * size].to(views.images.device)
                problems = dict.fromkeys(problem for _, own in groups[process.clip_number] for problem in own)
                views = replace(shared, problems=tuple(problems))
        yield views
