"""Every frame of a scene, the broken ones by name."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from openrayzer.data.chunk_files.scan import NoUsableSceneError
from openrayzer.interfaces import BrokenSceneError, Dataset

_TOGETHER = 8
"""Frames that are asked for at once: videos decode them in one go, and no more than these are in memory."""


@dataclass(frozen=True)
class ReadFrame:
    """One frame as it was read.

    Attributes:
        frame: its place in the scene.
        image: (h, w, 3) uint8; None where it cannot be used.
        c2w: (4, 4); None where it has no camera.
        intrinsics: (4,) normalised; None where it has no camera.
        fault: why it cannot be used.
    """

    frame: int
    image: np.ndarray | None = None
    c2w: np.ndarray | None = None
    intrinsics: np.ndarray | None = None
    fault: str = ""


def read_all(dataset: Dataset, scene: int, first: int, last: int) -> Iterator[ReadFrame]:
    """Frames from ``first`` up to, without, ``last``, in order; a broken one does not hide its neighbours."""
    for begin in range(first, last, _TOGETHER):
        frames = range(begin, min(begin + _TOGETHER, last))
        try:
            yield from _read(dataset, scene, frames)
        except BrokenSceneError:
            for frame in frames:
                try:
                    yield from _read(dataset, scene, range(frame, frame + 1))
                except BrokenSceneError as error:
                    yield ReadFrame(frame, fault=str(error))


def _read(dataset: Dataset, scene: int, frames: range) -> list[ReadFrame]:
    got = dataset.read(scene, frames)
    return [
        ReadFrame(
            frame,
            got.images[place],
            None if got.c2w is None else got.c2w[place],
            None if got.intrinsics is None else got.intrinsics[place],
        )
        for place, frame in enumerate(frames)
    ]


@dataclass(frozen=True)
class SceneLength:
    """One scene of an opened source: its number, its name and its length."""

    scene: int
    key: str
    num_frames: int


def scene_lengths(dataset: Dataset, problems: list[str]) -> list[SceneLength]:
    """All scenes; those that turn out unusable are left out and go to ``problems``.

    Raises:
        NoUsableSceneError: none is left.
    """
    found = []
    for scene in range(len(dataset)):
        try:
            found.append(SceneLength(scene, dataset.key(scene), dataset.num_frames(scene)))
        except BrokenSceneError as error:
            problems.append(str(error))
    if not found:
        raise NoUsableSceneError(f"no usable scene: {'; '.join(problems[:3])}")
    return found
