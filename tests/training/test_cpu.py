"""What is done for speed on a CPU changes no number, and helps."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import multiprocessing

from openrayzer.training.cpu import gather_by_broadcasts

SIZES = (5, 3)  # of a partition in each of two groups
FAULTS = """
import resource, sys, torch
from openrayzer.training.cpu import keep_freed_memory
keep_freed_memory()
torch.set_num_threads(1)
for repetition in range(30):
    if repetition == 15:  # the heap has found its size
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(2**24)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def _gather(rank: int, world_size: int, folder: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=world_size)
    wholes = [torch.full((world_size * size,), -1.0) for size in SIZES]
    partitions = [list(whole.chunk(world_size)) for whole in wholes]
    for group in partitions:
        group[rank].copy_(torch.arange(len(group[rank])) + 10.0 * rank)
    gather_by_broadcasts(wholes, partitions, [dist.group.WORLD] * 2, 1, 1)
    Path(folder, f"{rank}.json").write_text(json.dumps([whole.tolist() for whole in wholes]))
    dist.destroy_process_group()


def test_every_process_gets_the_parts_of_all(tmp_path: Path):
    multiprocessing.spawn(_gather, args=(2, str(tmp_path)), nprocs=2)
    expected = [[*map(float, range(size)), *(10.0 + number for number in range(size))] for size in SIZES]
    assert [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)] == [expected] * 2


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have other allocators")
def test_freed_memory_is_used_again_unless_the_environment_says_otherwise():
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}

    def page_faults(**settings: str) -> int:
        run = [sys.executable, "-c", FAULTS]
        return int(subprocess.run(run, env=plain | settings, check=True, stdout=subprocess.PIPE).stdout)

    assert page_faults() < 1000
    assert page_faults(MALLOC_ARENA_MAX="4") > 10_000  # 64 MiB anew each time, in pages of 4 KiB
