"""Reading of whole scenes, frame by frame, including broken frames."""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from openrayzer.data.chunk_files.scan import NoUsableSceneError
from openrayzer.interfaces import BrokenSceneError, Dataset

_TOGETHER = 8
"""Frames read together: videos decode them in one pass, and memory holds no more frames."""


@dataclass(frozen=True)
class ReadFrame:
    """One frame, or its fault.

    Attributes:
        frame: number of the frame.
        image: (h, w, 3) uint8; None if the frame cannot be used.
        c2w: (4, 4); None without a camera.
        intrinsics: (4,) normalised; None without a camera.
        fault: reason why the frame cannot be used; empty if there is none.
    """

    frame: int
    image: np.ndarray | None = None
    c2w: np.ndarray | None = None
    intrinsics: np.ndarray | None = None
    fault: str = ""


def read_all(dataset: Dataset, scene: int, first: int, last: int) -> Iterator[ReadFrame]:
    """Yield the frames ``first`` to ``last`` - 1 in order; a broken frame does not affect its neighbours."""
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
    """Number, name and length of a scene of an opened dataset."""

    scene: int
    key: str
    num_frames: int


def scene_lengths(dataset: Dataset, problems: list[str], numbers: Iterable[int] | None = None) -> list[SceneLength]:
    """The usable scenes of a dataset; ``problems`` gets a sentence on each unusable scene.

    Args:
        dataset: an opened dataset.
        problems: list to extend.
        numbers: the scenes to look at, of which all may be unusable; None looks at all scenes.

    Raises:
        NoUsableSceneError: no scene of the whole dataset is usable.
    """
    found = []
    for scene in range(len(dataset)) if numbers is None else numbers:
        try:
            found.append(SceneLength(scene, dataset.key(scene), dataset.num_frames(scene)))
        except BrokenSceneError as error:
            problems.append(str(error))
    if not found and numbers is None:
        raise NoUsableSceneError(f"no usable scene: {'; '.join(problems[:3])}")
    return found


def contents(dataset: Dataset, scenes: Iterable[int]) -> str:
    """A digest that changes with the files of some scenes, as far as ``Dataset.version`` reports them."""
    found = hashlib.sha256()
    for scene in scenes:
        try:
            for frame in range(dataset.num_frames(scene)):
                found.update(repr(_version(dataset, scene, frame)).encode())
        except BrokenSceneError as error:
            found.update(str(error).encode())
    return found.hexdigest()


def _version(dataset: Dataset, scene: int, frame: int) -> tuple[str, str]:
    try:
        return dataset.version(scene, frame)
    except BrokenSceneError:
        return "", ""
