"""The processes of a run: start-up, rank and device, and small exchanges among them.

No other file reads rank, world size or device. It works with ``deepspeed``, ``torchrun``, ``srun`` and plain
``python``, on GPUs and on the CPU.
"""

import ctypes
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from openrayzer.interfaces import InputError
from openrayzer.layers.tf32 import exact_float32
from openrayzer.machine.cpu import prepare_cpu
from openrayzer.machine.slurm_ranks import slurm_ranks

T = TypeVar("T")
PR_SET_PDEATHSIG = 1
"""Option of prctl(2): the signal that a process gets when its parent dies."""
COLLECTIVE_TIMEOUT = timedelta(minutes=30)
"""Longest time that processes wait for each other. Rank 0 writes a checkpoint or evaluates alone in less time."""


@dataclass(frozen=True)
class Process:
    """One process of the run, and its exchanges with the others.

    Attributes:
        rank: number of this process among all.
        local_rank: number of this process on its machine.
        world_size: number of processes.
        device: device of this process.
        messages: process group for small exchanges on the CPU, which never wait for a GPU; None with one process.
        clip_size: number of processes that share each clip, with consecutive ranks; a divisor of ``world_size``.
        clip_group: their process group; None if ``clip_size`` is 1.
    """

    rank: int
    local_rank: int
    world_size: int
    device: torch.device
    messages: Any = None
    clip_size: int = 1
    clip_group: Any = None

    @property
    def clip_number(self) -> int:
        """Number of the group of processes with the same clips as this one."""
        return self.rank // self.clip_size

    @property
    def clip_numbers(self) -> int:
        """Number of these groups."""
        return self.world_size // self.clip_size

    @property
    def leads_clip(self) -> bool:
        """Whether this is the first of the processes that share its clips."""
        return self.rank % self.clip_size == 0

    def sharing_clips(self, size: int) -> "Process":
        """The same process, with ``clip_size`` ``size``, a divisor of ``world_size``. All processes call this."""
        if size == 1:
            return self
        groups = [
            dist.new_group(list(range(first, first + size)), timeout=COLLECTIVE_TIMEOUT)
            for first in range(0, self.world_size, size)
        ]
        return replace(self, clip_size=size, clip_group=groups[self.rank // size])

    @property
    def is_first(self) -> bool:
        """Whether this is rank 0, the rank that writes files and log messages."""
        return self.rank == 0

    def barrier(self) -> None:
        """Wait for all processes."""
        if self.world_size > 1:
            dist.barrier(group=self.messages)

    def largest(self, value: int) -> int:
        """The largest ``value`` over all processes."""
        if self.world_size == 1:
            return value
        box = torch.tensor([value], dtype=torch.int64)
        dist.all_reduce(box, op=dist.ReduceOp.MAX, group=self.messages)
        return int(box)

    def total(self, values: Tensor) -> Tensor:
        """The sum of ``values`` over all processes, on the CPU in float64."""
        total = values.detach().to("cpu", torch.float64)
        if self.world_size > 1:
            dist.all_reduce(total, group=self.messages)
        return total

    def gather(self, value: Any) -> list[Any]:
        """``value`` of every process, in rank order. The values must be picklable."""
        if self.world_size == 1:
            return [value]
        values: list[Any] = [None] * self.world_size
        dist.all_gather_object(values, value, group=self.messages)
        return values

    def gather_to_first(self, value: Any) -> list[Any]:
        """``gather`` for large values: rank 0 gets the list, the others an empty one."""
        if self.world_size == 1:
            return [value]
        values: list[Any] | None = [None] * self.world_size if self.is_first else None
        dist.gather_object(value, values, dst=0, group=self.messages)
        return values or []

    def by_first(self, function: Callable[[], T]) -> T:
        """Call ``function`` on rank 0 and return its result on all ranks; its InputError is raised on all ranks."""
        box: list[Any] = [None, None]
        if self.is_first:
            try:
                box[0] = function()
            except InputError as error:
                box[1] = str(error)
        if self.world_size > 1:
            dist.broadcast_object_list(box, src=0, group=self.messages)
        if box[1] is not None:
            raise InputError(box[1])
        return box[0]

    def by_all(self, function: Callable[[], T]) -> T:
        """Call ``function`` on every rank and return this rank's result; an InputError of one is raised on all."""
        box: list[T] = []
        problem = ""
        try:
            box.append(function())
        except InputError as error:
            problem = str(error)
        problems = [text for text in self.gather(problem) if text]
        if problems:
            raise InputError(problems[0])
        return box[0]


def current_rank() -> int:
    """The rank that the launcher gave to this process, known before ``started``; 0 without a launcher."""
    return int(os.environ.get("RANK") or 0)


def check_local_processes() -> None:
    """Refuse to start more processes than this machine has cores, if it has no GPU. Call it before building anything.

    Two processes are always allowed, so that distributed code can be tested.

    Raises:
        InputError: there are more processes than cores, or the process is none of the tasks of its SLURM job.
    """
    os.environ.update(slurm_ranks(os.environ))
    if torch.cuda.is_available():
        return  # ``started`` checks that each process has its own GPU
    started_here, cores = local_size(), len(os.sched_getaffinity(0))
    if started_here > max(2, cores):
        raise InputError(
            f"{started_here} processes were started on this machine, which has {cores} core(s) and no GPU; "
            f"start at most {max(2, cores)}, e.g. deepspeed --num_accelerators {max(2, cores)} ..."
        )


@contextmanager
def started() -> Iterator[Process]:
    """Join the processes of the run for the length of a ``with`` block. Inside, float32 on GPUs is exact, without TF32.

    Raises:
        InputError: there are more processes on this machine than GPUs, or the process is none of the tasks of its SLURM
            job.
    """
    _fill_environment()
    rank, local_rank, world_size = (int(os.environ[name]) for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE"))
    _die_with_launcher()
    device, backend = _choose_device(local_rank)
    import deepspeed

    if device.type == "cuda":  # with one process DeepSpeed passes no device, and NCCL would guess
        dist.init_process_group(backend, timeout=COLLECTIVE_TIMEOUT, device_id=device)
    deepspeed.init_distributed(backend, timeout=COLLECTIVE_TIMEOUT, verbose=False)
    alone = world_size == 1
    messages = None if alone else dist.new_group(backend="gloo", timeout=COLLECTIVE_TIMEOUT)
    try:
        with exact_float32():
            yield Process(rank, local_rank, world_size, device, messages)
    except Exception as error:
        if isinstance(error, InputError):
            dist.destroy_process_group()
        raise  # after any other error the other ranks may be gone, and leaving the group could wait forever
    else:
        # Otherwise one run in thirty aborts when the interpreter exits.
        dist.destroy_process_group()


def _fill_environment() -> None:
    """Set a launcher's variables for ``srun`` and for plain ``python``; without them DeepSpeed looks for MPI."""
    os.environ.update(slurm_ranks(os.environ))
    if "RANK" in os.environ:
        return
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    alone = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "LOCAL_SIZE": "1"}
    os.environ.update(alone, MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))


def _choose_device(local_rank: int) -> tuple[torch.device, str]:
    """Device and communication backend of this process."""
    if not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")  # avoids a warning of DeepSpeed
    from deepspeed.accelerator import get_accelerator

    accelerator = get_accelerator()
    name = accelerator.device_name()
    if name == "cpu":
        prepare_cpu(processes=local_size())
        return torch.device("cpu"), accelerator.communication_backend_name()
    count = accelerator.device_count()
    if local_rank >= count:
        raise InputError(
            f"this machine has {count} visible {name} device(s), but process {local_rank + 1} was started on it; "
            f"start at most {count}, e.g. deepspeed --num_gpus {count} ..."
        )
    accelerator.set_device(local_rank)
    return torch.device(name, local_rank), accelerator.communication_backend_name()


def local_size() -> int:
    """Number of processes that the launcher started on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE") or os.environ.get("LOCAL_SIZE") or 1)  # torchrun | deepspeed


def _die_with_launcher() -> None:
    """Have the kernel send SIGTERM to this rank when DeepSpeed's launcher dies, so that no rank outlives it."""
    launched = any(argument.startswith("--local_rank") for argument in sys.argv)
    if launched:
        die_with_parent()


def die_with_parent() -> None:
    """Have Linux send SIGTERM to this process when its parent dies; other systems do nothing."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
