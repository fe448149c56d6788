"""Averaged weights in a checkpoint."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from openrayzer.weights.checkpoints.zero_layout import Pieces, Stretch

AVERAGE_FILE = "ema_rank_{:05d}.pt"


def read_average(folder: Path, *, world_size: int) -> Pieces | None:
    """The averaged weights in a checkpoint, by DeepSpeed's names; None if it holds none."""
    saved = read_shares(folder, world_size=world_size)
    return pieces_of(saved) if saved else None


def read_shares(folder: Path, *, world_size: int) -> list[dict[str, Any]]:
    files = [folder / AVERAGE_FILE.format(rank) for rank in range(world_size)]
    if not files[0].exists():
        return []
    return [torch.load(file, map_location="cpu", weights_only=True, mmap=True) for file in files]


def pieces_of(saved: Sequence[dict[str, Any]]) -> Pieces:
    layouts = [tuple(tuple(Stretch(*values) for values in group) for group in one["layout"]) for one in saved]
    averages: list[list[Tensor]] = [one["averages"] for one in saved]
    return Pieces(layouts, averages, saved[0]["shapes"])
