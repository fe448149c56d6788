"""One scene of any source as a scene of a chunk: smaller images, JPEG, the same frame numbers."""

from dataclasses import dataclass

import cv2
import numpy as np

from openrayzer.data.chunk_files.format import CAMERA_COLUMNS, ChunkScene, KnowsOrigin, Origin, cameras_to_rows
from openrayzer.data.preparing.whole_scenes import ReadFrame, SceneLength, read_all
from openrayzer.interfaces import BrokenSceneError, Dataset


@dataclass(frozen=True)
class Recoding:
    """How images are stored.

    Attributes:
        short_side: pixels of the shorter side; larger images are shrunk to it, smaller ones kept.
        quality: of JPEG, 1 to 100.
    """

    short_side: int | None
    quality: int


@dataclass(frozen=True)
class RecodedScene:
    """A scene to write, and why some of its frames are missing in it."""

    scene: ChunkScene
    missing: dict[int, str]

    @property
    def usable(self) -> bool:
        """Whether there is a frame at all."""
        return len(self.missing) < len(self.scene.images)


def recode_scene(dataset: Dataset, scene: SceneLength, recoding: Recoding) -> RecodedScene:
    """A scene of an opened source; a broken frame has no bytes and a camera of NaN, and keeps its number.

    Frames are stamped with their time where the source knows it, else with their number.
    """
    images, missing = list[bytes](), dict[int, str]()
    rows = np.full((scene.num_frames, CAMERA_COLUMNS), np.nan, np.float32)
    for read in read_all(dataset, scene.scene, 0, scene.num_frames):
        data, fault = _encoded(read, recoding)
        images.append(data)
        if not data:
            missing[read.frame] = fault
        elif dataset.posed:
            rows[read.frame] = _camera_row(read)
    cameras = rows if dataset.posed else None
    origin = _origin(dataset, scene)
    return RecodedScene(ChunkScene(scene.key, cameras, images, origin.timestamps, origin.url), missing)


def _encoded(read: ReadFrame, recoding: Recoding) -> tuple[bytes, str]:
    """A frame as it is stored; no bytes, and why, where it is missing."""
    if read.image is None:
        return b"", read.fault
    try:
        return encode(read.image, recoding), ""
    except BrokenSceneError as error:
        return b"", f"frame {read.frame}: {error}"


def _origin(dataset: Dataset, scene: SceneLength) -> Origin:
    numbers = np.arange(scene.num_frames)
    if not isinstance(dataset, KnowsOrigin):
        return Origin("", numbers)
    try:
        origin = dataset.origin(scene.scene)
    except BrokenSceneError:
        return Origin("", numbers)
    return origin if len(origin.timestamps) == scene.num_frames else Origin(origin.url, numbers)


def encode(image: np.ndarray, recoding: Recoding) -> bytes:
    """A JPEG file of an image (h, w, 3), shrunk where it is larger than wanted; areas are averaged (antialiased).

    Raises:
        BrokenSceneError: JPEG does not hold images as large.
    """
    height, width = image.shape[:2]
    short = min(height, width)
    if recoding.short_side is not None and short > recoding.short_side:
        size = (_scaled(width, recoding.short_side, short), _scaled(height, recoding.short_side, short))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    colours = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    done, data = cv2.imencode(".jpg", colours, [cv2.IMWRITE_JPEG_QUALITY, recoding.quality])
    if not done:
        raise BrokenSceneError(f"{image.shape[1]} x {image.shape[0]} pixels are more than a JPEG file holds")
    return data.tobytes()


def _scaled(side: int, wanted: int, short: int) -> int:
    """A side after scaling, rounded half up; normalised intrinsics do not change, whatever the rounding."""
    return (2 * side * wanted + short) // (2 * short)


def _camera_row(read: ReadFrame) -> np.ndarray:
    assert read.c2w is not None
    assert read.intrinsics is not None
    return cameras_to_rows(read.c2w[None], read.intrinsics[None])[0]
