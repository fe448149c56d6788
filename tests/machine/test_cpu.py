"""The broadcasts that replace DeepSpeed's gathering on CPUs give the same numbers."""

import json
from pathlib import Path

import torch
import torch.distributed as dist
from torch import multiprocessing

from openrayzer.machine.cpu import gather_by_broadcasts

SIZES = (5, 3)  # sizes of a partition in each of two groups


def _gather(rank: int, world_size: int, folder: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=world_size)
    wholes = [torch.full((world_size * size,), -1.0) for size in SIZES]
    partitions = [list(whole.chunk(world_size)) for whole in wholes]
    for group in partitions:
        group[rank].copy_(torch.arange(len(group[rank])) + 10.0 * rank)
    gather_by_broadcasts(wholes, partitions, [dist.group.WORLD] * 2, 1, 1)
    Path(folder, f"{rank}.json").write_text(json.dumps([whole.tolist() for whole in wholes]))
    dist.destroy_process_group()


def test_every_process_gets_all_partitions(tmp_path: Path):
    multiprocessing.spawn(_gather, args=(2, str(tmp_path)), nprocs=2)
    expected = [[*map(float, range(size)), *(10.0 + number for number in range(size))] for size in SIZES]
    assert [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)] == [expected] * 2
