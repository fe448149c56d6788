"""An exponential moving average of the weights, divided among the processes as the optimizer is.

Each process averages the float32 weights that it owns, so the memory is 4 bytes per weight over all processes together,
and nothing is sent while training.
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
    """The average, in float32.

    Args:
        partition: this process's share of the weights; their values now are where the average begins.
        decay: share of the average that an update keeps. The first updates keep less, so that where the run began is
            forgotten soon: min(decay, (1 + n) / (10 + n)) at update n, counted from 1.

    Source: Polyak and Juditsky 1992 for the idea; the rise of the decay as in TensorFlow's ExponentialMovingAverage.
    """

    def __init__(self, partition: ZeroPartition, *, decay: float) -> None:
        self._partition, self._decay, self._updates = partition, decay, 0
        self._averages = [weights.detach().clone() for weights in partition.weights]

    @torch.no_grad()
    def update(self) -> None:
        """Move the average towards the weights; after every step that changed them."""
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
        """Write this process's share into a checkpoint, as ``write`` does it."""
        layout = [[astuple(stretch) for stretch in group] for group in self._partition.layout()]
        content = {"updates": self._updates, "averages": self._averages, "layout": layout}
        write(content | {"shapes": self._partition.shapes}, folder / AVERAGE_FILE.format(rank))

    def load(self, folder: Path, *, world_size: int) -> bool:
        """Go on with the average of a checkpoint, whatever processes wrote it; False if it holds none."""
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
