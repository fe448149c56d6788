"""A scene of any dataset as a scene of a chunk: smaller JPEG images and depth maps, the same frame numbers."""

from dataclasses import dataclass

import cv2
import numpy as np

from openrayzer.data.chunk_files.depth_maps import depth_png
from openrayzer.data.chunk_files.format import CAMERA_COLUMNS, ChunkScene, KnowsOrigin, Origin, cameras_to_rows
from openrayzer.data.pixels.resizing import fit_depth
from openrayzer.data.preparing.whole_scenes import ReadFrame, SceneLength, read_all
from openrayzer.interfaces import BrokenSceneError, Dataset, InputError


@dataclass(frozen=True)
class Recoding:
    """Format of stored images.

    Attributes:
        short_side: pixels of the shorter side; larger images are shrunk to it, smaller images keep their size. None
            keeps all sizes.
        quality: JPEG quality, 1 to 100.
    """

    short_side: int | None
    quality: int

    def check(self) -> None:
        """Raise InputError if a value is out of range."""
        if self.short_side is not None and self.short_side < 1:
            raise InputError(f"the short side must be 1 pixel or more, got {self.short_side}")
        if not 1 <= self.quality <= 100:
            raise InputError(f"the JPEG quality must be from 1 to 100, got {self.quality}")


@dataclass(frozen=True)
class RecodedScene:
    """A scene to write, and its missing frames: number -> fault."""

    scene: ChunkScene
    missing: dict[int, str]

    @property
    def usable(self) -> bool:
        """Whether the scene has at least one frame."""
        return len(self.missing) < len(self.scene.images)


def recode_scene(dataset: Dataset, scene: SceneLength, recoding: Recoding) -> RecodedScene:
    """Recode a scene of an opened dataset. A broken frame keeps its number and gets no bytes and a camera of NaN.

    Timestamps are the times of the frames if the dataset knows them, or else their numbers.
    """
    images, depths, missing = list[bytes](), list[bytes](), dict[int, str]()
    rows = np.full((scene.num_frames, CAMERA_COLUMNS), np.nan, np.float32)
    for read in read_all(dataset, scene.scene, 0, scene.num_frames):
        data, fault = _encoded(read, recoding)
        images.append(data)
        depths.append(_encoded_depth(dataset, scene, read, recoding) if data else b"")
        if not data:
            missing[read.frame] = fault
        elif dataset.posed:
            rows[read.frame] = _camera_row(read)
    cameras = rows if dataset.posed else None
    origin = _origin(dataset, scene)
    known = depths if any(depths) else None
    return RecodedScene(ChunkScene(scene.key, cameras, images, origin.timestamps, origin.url, known), missing)


def _encoded(read: ReadFrame, recoding: Recoding) -> tuple[bytes, str]:
    """The encoded image of a frame; for a missing frame no bytes, and its fault."""
    if read.image is None:
        return b"", read.fault
    try:
        return encode(read.image, recoding), ""
    except BrokenSceneError as error:
        return b"", f"frame {read.frame}: {error}"


def _encoded_depth(dataset: Dataset, scene: SceneLength, read: ReadFrame, recoding: Recoding) -> bytes:
    """The depth map of a frame at the size of its image; no bytes without depth. A broken depth map becomes unknown."""
    assert read.image is not None
    size = read.image.shape[:2]
    try:
        depths = dataset.depths(scene.scene, [read.frame])
    except BrokenSceneError:
        depths = [np.zeros(size, np.float32)]
    return b"" if depths is None else depth_png(fit_depth(depths[0], _stored_size(size, recoding)))


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
    """Encode an image (h, w, 3) as a JPEG file; a larger image is shrunk by averaging areas, which avoids aliasing.

    Raises:
        BrokenSceneError: the image is too large for JPEG.
    """
    height, width = _stored_size(image.shape[:2], recoding)
    if (height, width) != image.shape[:2]:
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    colours = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    done, data = cv2.imencode(".jpg", colours, [cv2.IMWRITE_JPEG_QUALITY, recoding.quality])
    if not done:
        raise BrokenSceneError(f"{image.shape[1]} x {image.shape[0]} pixels are too many for a JPEG file")
    return data.tobytes()


def _stored_size(size: tuple[int, ...], recoding: Recoding) -> tuple[int, int]:
    """Height and width of a stored image."""
    height, width = size
    short = min(height, width)
    if recoding.short_side is None or short <= recoding.short_side:
        return height, width
    return _scaled(height, recoding.short_side, short), _scaled(width, recoding.short_side, short)


def _scaled(side: int, wanted: int, short: int) -> int:
    """A side after scaling, rounded half up; the rounding does not change normalised intrinsics."""
    return (2 * side * wanted + short) // (2 * short)


def _camera_row(read: ReadFrame) -> np.ndarray:
    assert read.c2w is not None
    assert read.intrinsics is not None
    return cameras_to_rows(read.c2w[None], read.intrinsics[None])[0]
