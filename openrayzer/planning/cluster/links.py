"""The check of the links between ranks: a small and a large all-reduce on the device that trains."""

import time
from statistics import median

import torch
import torch.distributed as dist

from openrayzer.machine.distributed import Process
from openrayzer.planning.cluster.findings import Finding

LARGE = 64 * 2**20
"""Bytes of the large all-reduce, about one of DeepSpeed's buckets."""


def check_links(process: Process, *, weights: int = 0) -> list[Finding]:
    """Latency and bandwidth of an all-reduce, and whether its sum is right.

    The bandwidth belongs to the link of each rank in a ring of n ranks; it sends 2 (n - 1) / n times the bytes. Each
    optimizer step sends the gradients once; this gives a lower bound for the time of a step.

    Args:
        process: this process.
        weights: number of weights of the model, for that bound; 0 leaves the bound out.
    """
    if process.world_size == 1:
        return [Finding("all-reduce", "ok", "one process, so nothing is sent")]
    small, large = torch.ones(1, device=process.device), torch.ones(LARGE // 4, device=process.device)
    latency = _seconds(small, repeats=20)
    seconds = _seconds(large, repeats=5)
    right = torch.ones(1000, device=process.device) * (process.rank + 1)
    dist.all_reduce(right)
    expected = process.world_size * (process.world_size + 1) / 2
    wrong = int(process.largest(int((right != expected).any())))
    bandwidth = 2 * (process.world_size - 1) / process.world_size * LARGE / seconds
    times = process.gather(seconds)
    found = f"{dist.get_backend()}: {latency * 1e6:,.0f} us, {bandwidth / 1e9:.2f} GB/s in {LARGE >> 20} MiB"
    if weights:
        found += f"; the gradients take at least {4 * weights / LARGE * seconds:.2f} s a step"
    findings = [Finding("all-reduce", "FAILS" if wrong else "ok", found + "; ITS SUM IS WRONG" * wrong)]
    if max(times) > 3 * median(times):
        findings.append(Finding("slowest rank", "warning", f"rank {times.index(max(times))} takes {max(times):.3f} s"))
    return findings


def _seconds(values: torch.Tensor, *, repeats: int) -> float:
    """Median seconds of an all-reduce, after two for warming up."""
    times = []
    for _ in range(repeats + 2):
        _finish(values)
        begin = time.perf_counter()
        dist.all_reduce(values)
        values.clamp_(max=1.0)
        _finish(values)
        times.append(time.perf_counter() - begin)
    return median(times[2:])


def _finish(values: torch.Tensor) -> None:
    if values.device.type == "cuda":
        torch.cuda.synchronize(values.device)
