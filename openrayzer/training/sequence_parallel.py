"""Sequence parallelism: the exchange of tensors among the processes that share the views of a clip.

The exchange is an operator of ``deepspeed.sequence``, which ``torch.compile`` can differentiate. ``layers.view_shares``
uses it for the tensors of a model. The rest of DeepSpeed's sequence parallelism does not fit here:
``DistributedAttention`` sends queries, keys and values one by one; ``deepspeed.runtime.sequence_parallel`` wraps models
and data loaders of the library transformers; and the process groups of its engine change the mean of the gradients.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from openrayzer.layers.view_shares import UNSHARED, ViewShares
from openrayzer.machine.distributed import Process


def shares_of(process: Process) -> ViewShares:
    """The share of this process in the views of its clips."""
    if process.clip_size == 1:
        return UNSHARED
    from deepspeed.sequence.layer import register_all_to_all_group

    group = register_all_to_all_group(process.clip_group)

    def exchange(rows: Float[Tensor, "processes ..."]) -> Float[Tensor, "processes ..."]:
        return torch.ops.deepspeed.dim_zero_all_to_all(rows.contiguous(), group)

    return ViewShares(process.clip_size, process.rank % process.clip_size, exchange)
