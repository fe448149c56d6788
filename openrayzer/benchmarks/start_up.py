"""Seconds and memory that one rank needs to open a large source. Run it in a separate process."""

import json
import os
import sys
import time
from collections.abc import Mapping
from itertools import islice
from pathlib import Path

_BATCHES = 50


def main() -> None:
    """Open the chunks in the folder given as first argument, load batches and print a JSON object."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    from openrayzer.data.loading.loader import build_loader
    from openrayzer.data.sampling.view_samplers import Even
    from openrayzer.data.sources.chunks import Chunks
    from openrayzer.settings import DataSettings, Source

    libraries = memory(os.getpid(), "Rss")
    begin = time.perf_counter()
    sampler = Even(num_context=2, num_target=2)
    source = Source(dataset=Chunks(root=Path(sys.argv[1])))
    settings = DataSettings(train=(source,), view_sampler=sampler, image_size=(16, 16), workers=2)
    loader = build_loader(settings, batch_size_per_rank=8, rank=0, world_size=1, seed=0)
    opened = time.perf_counter() - begin
    next(loader)
    first = time.perf_counter() - begin
    for _ in islice(loader, _BATCHES):
        pass
    print(json.dumps(_result(libraries, opened, first)))


def _result(libraries: int, opened: float, first: float) -> Mapping[str, float]:
    mine = memory(os.getpid(), "Rss")
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    own = sum(memory(int(child), "Private_Clean", "Private_Dirty") for child in children)
    return {
        "libraries_megabytes": libraries / 1e6,
        "rank_megabytes": mine / 1e6,
        "workers_own_megabytes": own / 1e6,
        "open_seconds": opened,
        "first_batch_seconds": first,
    }


def memory(process: int, *kinds: str) -> int:
    """Bytes of memory of a process: the sum over some kinds of the kernel's smaps_rollup, e.g. "Rss"."""
    lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.partition(":")[0] in kinds)
