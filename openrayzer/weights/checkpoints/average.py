"""Read the exponential moving average of the weights from a checkpoint."""

from dataclasses import dataclass
from pathlib import Path

import torch

from openrayzer.weights.checkpoints.zero_layout import Pieces, Stretch

AVERAGE_FILE = "ema_rank_{:05d}.pt"
"""The part of the average that one rank keeps."""


@dataclass(frozen=True)
class SavedAverage:
    """The average in a checkpoint.

    Attributes:
        updates: number of steps that have entered the average.
        weights: the averaged weights by DeepSpeed's names.
    """

    updates: int
    weights: Pieces


def has_average(folder: Path) -> bool:
    """Return True if the checkpoint in ``folder`` holds an average."""
    return (folder / AVERAGE_FILE.format(0)).exists()


def read_average(folder: Path, *, world_size: int) -> SavedAverage | None:
    """Read the average of the checkpoint in ``folder``; None if it holds no average.

    Args:
        folder: the checkpoint.
        world_size: number of ranks that wrote it.
    """
    if not has_average(folder):
        return None
    files = [folder / AVERAGE_FILE.format(rank) for rank in range(world_size)]
    parts = [torch.load(file, map_location="cpu", weights_only=True, mmap=True) for file in files]
    layouts = [tuple(tuple(Stretch(*values) for values in group) for group in part["layout"]) for part in parts]
    averages = [part["averages"] for part in parts]
    return SavedAverage(parts[0]["updates"], Pieces(layouts, averages, parts[0]["shapes"]))
