"""What training on a CPU needs to be as fast as it can be; on other devices nothing here is called."""

import os
from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from openrayzer.machine.freed_memory import keep_freed_memory


def prepare_cpu(*, processes: int) -> None:
    """Set up threads, memory and DeepSpeed, before the first tensor is made.

    Args:
        processes: how many of them share this machine.
    """
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // processes))
    keep_freed_memory()
    import deepspeed.ops
    from deepspeed.runtime.zero import stage_1_and_2

    # Otherwise start-up compiles a communication kernel that only inference calls, and needs a C++ compiler for it.
    deepspeed.ops.__compatible_ops__ = {}
    stage_1_and_2.all_gather_dp_groups = gather_by_broadcasts


def gather_by_broadcasts(
    groups_flat: Sequence[Tensor],
    partitioned_param_groups: Sequence[Sequence[Tensor]],
    dp_process_group: Sequence[Any],
    start_alignment_factor: int,
    allgather_bucket_size: int,
) -> None:
    """Give every process the partitions of all others, in place of DeepSpeed's function of the same arguments.

    Each partition is broadcast by its owner, all at once: Gloo's all-gather takes three times as long.
    """
    waiting: list[Any] = []
    for partitions, group in zip(partitioned_param_groups, dp_process_group, strict=True):
        if dist.get_world_size(group) > 1:
            for rank, partition in enumerate(partitions):
                source = dist.get_global_rank(group, rank)
                waiting.append(dist.broadcast(partition.detach(), src=source, group=group, async_op=True))
    for work in waiting:
        work.wait()
