"""Estimate of the space and time of a conversion, and the division of its scenes into chunks."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from openrayzer.data.preparing.recoding import Recoding, encode
from openrayzer.data.preparing.whole_scenes import SceneLength
from openrayzer.interfaces import BrokenSceneError, Dataset

_SAMPLED = 16  # at least so many scenes are sampled if there are more, one frame each
_UNKNOWN = 1e5  # bytes of a frame if no sampled frame can be read


@dataclass(frozen=True)
class Estimate:
    """Expected space and time of a conversion."""

    num_scenes: int
    num_frames: int
    num_done: int
    bytes_per_frame: float
    seconds_per_frame: float
    processes: int
    free_bytes: int

    @property
    def num_bytes(self) -> float:
        """Space for the frames that are left."""
        return (self.num_frames - self.num_done) * self.bytes_per_frame

    @property
    def seconds(self) -> float:
        """Time for the frames that are left."""
        return (self.num_frames - self.num_done) * self.seconds_per_frame / self.processes

    def __str__(self) -> str:
        done = f", {self.num_done} of them done" if self.num_done else ""
        return (
            f"{self.num_scenes} scenes, {self.num_frames} frames{done}: about {self.num_bytes / 1e6:.1f} MB "
            f"({self.free_bytes / 1e6:.0f} MB are free) and {_duration(self.seconds)} with {self.processes} process(es)"
        )


def sample_frames(dataset: Dataset, scenes: Sequence[SceneLength], recoding: Recoding) -> tuple[float, float]:
    """Mean bytes and seconds of an encoded frame, from the middle frames of evenly spread scenes."""
    start = time.perf_counter()
    sizes = []
    for scene in scenes[:: max(len(scenes) // _SAMPLED, 1)]:
        try:
            image = dataset.read(scene.scene, [scene.num_frames // 2]).images[0]
            sizes.append(len(encode(image, recoding)))
        except BrokenSceneError:
            continue
    seconds = (time.perf_counter() - start) / max(len(sizes), 1)
    return (sum(sizes) / len(sizes) if sizes else _UNKNOWN), seconds


def divide(scenes: Sequence[SceneLength], frames_per_chunk: float) -> list[list[list[Any]]]:
    """Name and length of the scenes of each chunk; a chunk takes whole scenes until it has enough frames."""
    chunks: list[list[list[Any]]] = []
    frames = frames_per_chunk
    for scene in scenes:
        if frames >= frames_per_chunk:
            chunks.append([])
            frames = 0.0
        chunks[-1].append([scene.key, scene.num_frames])
        frames += scene.num_frames
    return chunks


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
