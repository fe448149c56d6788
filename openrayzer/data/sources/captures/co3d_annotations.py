"""Frames of a category of CO3D: the list in frame_annotations.jgz, read entry by entry."""

import gzip
import json
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from pathlib import Path, PurePosixPath
from threading import Lock
from typing import Any

import numpy as np

from openrayzer.data.pixels.lens_distortion import Lens
from openrayzer.data.stated_cameras import camera_to_world, image_sides, number
from openrayzer.machine.plain_files import FileError, read_plain_file

ANNOTATIONS = "frame_annotations.jgz"
MAX_PACKED, MAX_TEXT = 1 << 30, 1 << 32
"""Size limits in bytes of the file and of the text in it."""

_CATEGORIES = 64  # CO3D has 51
_READING = Lock()
_PYTORCH3D_TO_OPENCV = np.diag([-1.0, -1.0, 1.0, 1.0])
"""PyTorch3D's x points left, and its y points up."""


@dataclass(frozen=True, slots=True)
class FrameAnnotation:
    """One frame, as it is stated.

    Attributes:
        path: path of the image, relative to the folder of the categories.
        numbers: (16,) R, T, focal length and principal point; the fault as a text if they are not numbers.
        sides: height and width of the image.
        isotropic: whether focal length and principal point are relative to half of the shorter side, and not to half
            of each side.
        seconds: time of the frame; None if it is unknown.
    """

    path: str
    numbers: np.ndarray | str
    sides: tuple[Any, Any]
    isotropic: bool
    seconds: float | None

    @property
    def file(self) -> str:
        """Path of the image relative to the folder of the sequence."""
        return PurePosixPath(*PurePosixPath(self.path).parts[2:]).as_posix()

    def camera(self) -> tuple[np.ndarray, Lens]:
        """Camera to world (4, 4), OpenCV axes, and the lens.

        A point X of the world has the coordinates X R + T in PyTorch3D's camera. The pixel of a point is
        width / 2 - s (focal x / z + principal), where s is half of a side. Source: PyTorch3D's documentation,
        "Cameras", and ``frame_data.py`` of its Implicitron.

        Raises:
            FileError: a number is missing.
        """
        if isinstance(self.numbers, str):
            raise FileError(self.numbers)
        height, width = image_sides(*self.sides)
        world_to_camera = np.eye(4)
        world_to_camera[:3, :3] = np.reshape(self.numbers[:9], (3, 3)).T
        world_to_camera[:3, 3] = self.numbers[9:12]
        c2w = camera_to_world(_PYTORCH3D_TO_OPENCV @ world_to_camera)
        half = np.array([width, height]) / 2
        scale = np.full(2, half.min()) if self.isotropic else half
        focal, centre = scale * self.numbers[12:14], half - scale * self.numbers[14:16]
        return c2w, Lens((*focal.tolist(), *centre.tolist()), (height, width))


def annotations_of(path: Path, state: str, root: Path | None) -> Mapping[str, list[FrameAnnotation]]:
    """Frames of each sequence of a category, kept for the whole process.

    Args:
        path: a frame_annotations.jgz.
        state: ``file_state`` of the file, so that a changed file is read again.
        root: folder that the file must lie in; None for any place.

    Raises:
        FileError: the file cannot be used.
    """
    with _READING:  # several threads open the sequences of one category
        return _annotations(path, state, root)


@lru_cache(maxsize=_CATEGORIES)
def _annotations(path: Path, state: str, root: Path | None) -> Mapping[str, list[FrameAnnotation]]:
    sequences: dict[str, list[FrameAnnotation]] = {}
    for entry in _entries(_text(read_plain_file(path, root=root, limit=MAX_PACKED))):
        name = entry.get("sequence_name")
        annotation = _annotation(entry)
        if isinstance(name, str) and annotation is not None:
            sequences.setdefault(name, []).append(annotation)
    return sequences


def _text(packed: bytes) -> str:
    try:
        with gzip.open(BytesIO(packed)) as file:
            content = file.read(MAX_TEXT + 1)
        if len(content) > MAX_TEXT:
            raise FileError(f"{ANNOTATIONS} holds more than the {MAX_TEXT} bytes allowed")
        return content.decode("utf-8")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise FileError(f"{ANNOTATIONS} cannot be unpacked: {error}") from error


def _entries(text: str) -> Iterator[dict[str, Any]]:
    """The objects of a JSON list, one at a time: all at once would need several times the memory of the text."""
    decoder, place, end = json.JSONDecoder(), text.find("[") + 1, len(text)
    try:
        while place:
            while place < end and text[place] in " \t\r\n,":
                place += 1
            if text[place : place + 1] == "]":
                return
            entry, place = decoder.raw_decode(text, place)
            if isinstance(entry, dict):
                yield entry
    except (ValueError, RecursionError) as error:
        raise FileError(f"{ANNOTATIONS} is not JSON, was it cut short? {error}") from error
    raise FileError(f"{ANNOTATIONS} is no list")


def _annotation(entry: Mapping[str, Any]) -> FrameAnnotation | None:
    """A frame; None if it states no image of a sequence."""
    image, viewpoint = _object(entry.get("image")), _object(entry.get("viewpoint"))
    path, size, seconds = image.get("path"), image.get("size"), entry.get("frame_timestamp")
    if not isinstance(path, str) or ".." in (parts := PurePosixPath(path).parts) or len(parts) < 3:
        return None
    numbers: np.ndarray | str
    try:
        values = [
            number(value, name)
            for name, count in (("R", 9), ("T", 3), ("focal_length", 2), ("principal_point", 2))
            for value in _flat(viewpoint.get(name), count, name)
        ]
        numbers = np.array(values)
    except FileError as error:
        numbers = str(error)
    sides = tuple(size) if isinstance(size, list) and len(size) == 2 else (None, None)
    isotropic = str(viewpoint.get("intrinsics_format", "")).lower() == "ndc_isotropic"
    return FrameAnnotation(path, numbers, (sides[0], sides[1]), isotropic, _seconds(seconds))


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _flat(value: Any, count: int, name: str) -> list[Any]:
    if value is None:
        raise FileError(f"it has no {name}")
    rows = value if isinstance(value, list) else []
    values = [item for row in rows for item in (row if isinstance(row, list) else [row])]
    if len(values) != count:
        raise FileError(f"its {name} is {value!r:.60}, not {count} numbers")
    return values


def _seconds(value: Any) -> float | None:
    usable = isinstance(value, int | float) and not isinstance(value, bool) and value >= 0
    return float(value) if usable else None
