"""Bytes that a run reads from its training sources, measured on a few clips."""

from dataclasses import dataclass, replace
from pathlib import Path

from openrayzer.data.loading.loader import build_loader
from openrayzer.machine.remote_requests import TRAFFIC
from openrayzer.settings import DataSettings

_IO = Path("/proc/self/io")


@dataclass(frozen=True)
class DataVolume:
    """Size of the training sources.

    Attributes:
        epoch: number of clips of one epoch.
        read: bytes read from files and servers for one clip; None if the system does not count them.
        clips: number of clips that were read to measure this.
        problems: problems of the sources, one sentence each.
    """

    epoch: int
    read: float | None
    clips: int
    problems: tuple[str, ...]


def data_volume(data: DataSettings, *, seed: int, clips: int = 8) -> DataVolume:
    """Open the training sources and read some clips in this process, as training does.

    Args:
        data: sources, view sampler and image size.
        seed: seed of the run.
        clips: number of clips to read.

    Raises:
        InputError: a source cannot be opened, or its scenes cannot be used.
    """
    loader = build_loader(replace(data, workers=0), batch_size_per_rank=1, rank=0, world_size=1, seed=seed)
    problems = list(loader.problems)
    problems += next(loader).problems  # the first clip also reads the tables of files, which do not count
    before = _bytes_read()
    for _ in range(clips):
        problems += next(loader).problems
    after = _bytes_read()
    read = None if before is None or after is None else (after - before) / clips
    return DataVolume(loader.epoch_size, read, clips, tuple(problems))


def _bytes_read() -> int | None:
    """Bytes that this process has read, from disk, from the system's cache or from servers; None if it is unknown."""
    try:
        fields = dict(line.split(": ") for line in _IO.read_text().splitlines())
        return int(fields["rchar"]) + TRAFFIC.received
    except (OSError, KeyError, ValueError):
        return None
