"""Settings that make training on a CPU fast."""

import os
from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from openrayzer.machine.freed_memory import keep_freed_memory


def prepare_cpu(*, processes: int) -> None:
    """Set up threads, memory and DeepSpeed. Call it before the first tensor is made.

    Args:
        processes: number of processes that share this machine.
    """
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // processes))
    keep_freed_memory()
    import deepspeed.ops
    from deepspeed.runtime.zero import stage_1_and_2

    # DeepSpeed would compile a communication kernel that only inference calls, which needs a C++ compiler.
    deepspeed.ops.__compatible_ops__ = {}
    stage_1_and_2.all_gather_dp_groups = gather_by_broadcasts


def gather_by_broadcasts(
    groups_flat: Sequence[Tensor],
    partitioned_param_groups: Sequence[Sequence[Tensor]],
    dp_process_group: Sequence[Any],
    start_alignment_factor: int,
    allgather_bucket_size: int,
) -> None:
    """Give every process the partitions of all others; replaces a function of DeepSpeed with the same arguments.

    Each owner broadcasts its partition, and all broadcasts run at once. Gloo's all-gather takes three times as long.
    """
    waiting: list[Any] = []
    for partitions, group in zip(partitioned_param_groups, dp_process_group, strict=True):
        if dist.get_world_size(group) > 1:
            for rank, partition in enumerate(partitions):
                source = dist.get_global_rank(group, rank)
                waiting.append(dist.broadcast(partition.detach(), src=source, group=group, async_op=True))
    for work in waiting:
        work.wait()
