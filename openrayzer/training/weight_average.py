"""The exponential moving average of the weights, divided among the processes like the optimizer.

Each process averages the float32 weights that it owns. The average takes 4 bytes per weight over all processes
together, and training needs no communication for it.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import astuple
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from openrayzer.training.checkpointing.zero_partition import ZeroPartition
from openrayzer.weights.checkpoints.average import AVERAGE_FILE, read_average
from openrayzer.weights.checkpoints.zero_layout import divide


class WeightAverage:
    """The average in float32. It begins with the present weights.

    Args:
        partition: the weights that this process owns.
        decay: share of the average that an update keeps. At update n, counted from 1, the decay is
            min(decay, (1 + n) / (10 + n)), so the average soon forgets the first weights.

    Source: Polyak and Juditsky 1992; the rise of the decay as in TensorFlow's ExponentialMovingAverage.
    """

    def __init__(self, partition: ZeroPartition, *, decay: float) -> None:
        self._partition, self._decay, self._updates = partition, decay, 0
        self._averages = [weights.detach().clone() for weights in partition.weights]

    @torch.no_grad()
    def update(self) -> None:
        """Move the average towards the weights. Call this after every step that changed the weights."""
        self._updates += 1
        keep = min(self._decay, (1 + self._updates) / (10 + self._updates))
        for average, weights in zip(self._averages, self._partition.weights, strict=True):
            average.lerp_(weights, 1 - keep)

    @contextmanager
    def in_model(self) -> Iterator[None]:
        """Put the average into the model for the ``with`` block, on all processes.

        Afterwards the weights are the same as before, to the bit. An error in a run of several processes leaves the
        average in the model: the exchange is a collective operation, which the other processes may never reach.
        """
        self._exchange()
        try:
            yield
        except Exception:
            if dist.get_world_size() == 1:
                self._exchange()
            raise
        self._exchange()

    def save(self, folder: Path, *, rank: int, write: Callable[[Any, Path], object] = torch.save) -> None:
        """Write the share of this process into a checkpoint, by ``write(content, file)``."""
        layout = [[astuple(stretch) for stretch in group] for group in self._partition.layout()]
        content = {"updates": self._updates, "averages": self._averages, "layout": layout}
        write(content | {"shapes": self._partition.shapes}, folder / AVERAGE_FILE.format(rank))

    def load(self, folder: Path, *, world_size: int) -> bool:
        """Load the average of a checkpoint that any number of processes wrote; False if the checkpoint has none."""
        saved = read_average(folder, world_size=world_size)
        if saved is None:
            self._averages = [weights.detach().clone() for weights in self._partition.weights]
            return False
        self._updates = saved.updates
        for average, stretches in zip(self._averages, self._partition.layout(), strict=True):
            average.copy_(divide(stretches, saved.weights.whole, size=average.numel()))
        return True

    @torch.no_grad()
    def _exchange(self) -> None:
        for average, weights in zip(self._averages, self._partition.weights, strict=True):
            aside = weights.detach().clone()
            weights.data.copy_(average)
            average.copy_(aside)
        self._partition.publish()
