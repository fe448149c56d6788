"""The check of an experiment's data: whether every rank can load clips, and how fast."""

import time

from openrayzer.data.loading.loader import build_loader
from openrayzer.interfaces import InputError
from openrayzer.machine.distributed import Process
from openrayzer.planning.cluster.findings import Finding
from openrayzer.settings import DataSettings


def check_clips(
    process: Process, data: DataSettings, *, micro_batch: int, accumulation: int, seed: int, batches: int = 6
) -> Finding:
    """Load micro-batches on all ranks at once, as training does.

    Args:
        process: this process.
        data: sources, view sampler, image size and workers.
        micro_batch: clips of a micro-batch on this rank.
        accumulation: micro-batches of an optimizer step.
        seed: seed of the run.
        batches: number of timed micro-batches, after a first one that starts the workers.
    """
    problem, rate, wait = "", 0.0, 0.0
    try:
        begin = time.perf_counter()
        loader = build_loader(
            data, batch_size_per_rank=micro_batch, rank=process.rank, world_size=process.world_size, seed=seed,
            accumulation=accumulation, device=process.device,
        )  # fmt: skip
        next(loader)
        wait, begin = time.perf_counter() - begin, time.perf_counter()
        for _ in range(batches):
            next(loader)
        rate = batches * micro_batch / (time.perf_counter() - begin)
    except InputError as error:
        problem = str(error).partition("\n")[0]
    problems = process.gather(problem)
    broken = [rank for rank, text in enumerate(problems) if text]
    if broken:
        return Finding("data", "FAILS", f"rank(s) {broken}: {problems[broken[0]]}")
    rates, waits = process.gather(rate), process.gather(wait)
    found = f"{sum(rates):,.1f} clips a second over all ranks, {min(rates):,.1f} on the slowest; "
    found += f"first after {max(waits):.1f} s"
    return Finding("data", "ok", found)
