"""Processes that share clips have the same ones, although each reads them for itself."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Barrier
from typing import Any

import torch

from openrayzer.machine.distributed import Process
from openrayzer.training.sequence_parallel import same_clips
from openrayzer.types import Views


@dataclass(frozen=True)
class InThread(Process):
    """A process that is a thread of this one."""

    barrier_of_all: Barrier = field(kw_only=True)
    values: list[Any] = field(kw_only=True)

    def gather(self, value: Any) -> list[Any]:
        self.values[self.rank] = value
        self.barrier_of_all.wait(timeout=20)
        gathered = list(self.values)
        self.barrier_of_all.wait(timeout=20)
        return gathered


def read_by_process(rank: int) -> Iterator[Views]:
    """Three batches. Process 1 cannot read the second scene, and process 2 cannot read the third one."""
    for number in range(3):
        fails = (rank, number) in ((1, 1), (2, 2))
        number += 10 * fails
        images = torch.full((1, 2, 3, 4, 4), float(number))
        positions = torch.tensor([[0, 1]])
        problems = ("a broken scene",) if fails else ()
        yield Views(
            images, positions + number, positions[:, :1], positions[:, 1:], (f"scene {number}",), None, problems
        )


def test_processes_that_share_clips_train_on_the_same_ones_if_one_cannot_read_a_scene():
    barrier, values = Barrier(4), [None] * 4

    def batches(rank: int) -> list[Views]:
        process = InThread(rank, rank, 4, torch.device("cpu"), clip_size=2, barrier_of_all=barrier, values=values)
        return list(same_clips(read_by_process(rank), process))

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(batches, range(4)))
    scenes = [[views.scenes[0] for views in one] for one in found]
    assert scenes[0] == scenes[1] == ["scene 0", "scene 1", "scene 2"]
    assert scenes[2] == scenes[3] == ["scene 0", "scene 1", "scene 12"]
    for one, other in (found[:2], found[2:]):
        assert all(torch.equal(a.images, b.images) and torch.equal(a.frames, b.frames)
                   for a, b in zip(one, other, strict=True))  # fmt: skip
    assert [[len(views.problems) for views in one] for one in found] == 2 * [[0, 1, 0]] + 2 * [[0, 0, 1]]
