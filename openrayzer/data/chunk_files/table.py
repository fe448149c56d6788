"""Tables of the scenes of a chunk, read without its images; the entry point is ``read_chunk_table``.

The tables check everything that the file states, so a cached table is safe to use.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from openrayzer.data.chunk_files.format import CAMERA_COLUMNS, Origin
from openrayzer.data.chunk_files.tensor_pickle import MAX_PICKLE_BYTES, PickleRefusedError, TensorRecord, read_tree
from openrayzer.data.chunk_files.zip_entries import ZipEntry, ZipFormatError, entry_range, read_directory, read_entry
from openrayzer.data.scene_names import is_usable_key
from openrayzer.data.stated_cameras import camera_faults
from openrayzer.interfaces import BrokenSceneError
from openrayzer.machine.opened_files import FileError, OpenFile, opened

_RECORD_BYTES = 64
"""Smallest number of bytes of a scene or image in the object tree of a file."""

_USES = 4
"""Largest memory for the scenes of a chunk, relative to the size of its file. The usual ratio is 1, slightly more if
repeated frames share one image."""

_MAX_URL = 2048  # characters; many scenes may share one long text, and a conversion would write it for each scene

_MAX_SMALL = 1 << 20  # bytes of the cameras of a scene that are prefetched; 15,000 cameras

_LOCATION = [
    ("header", np.int64),
    ("entry_size", np.int64),
    ("crc", np.uint32),
    ("start", np.int64),
    ("size", np.int64),
]


@dataclass(frozen=True)
class SceneTable:
    """One scene of a chunk.

    Attributes:
        key: the scene's name.
        images: (v,) rows: the zip entry and the range of bytes in it of each encoded image.
        cameras: (v, 18) float32, see ``format``; zeros if the scene is read without cameras.
        frame_faults: number of each missing frame -> its fault.
        fault: reason why the whole scene cannot be used; empty if there is none.
        origin: URL and timestamps of the scene.
        depths: (v,) rows like ``images``, of the encoded depth maps; none for a scene without depth.
    """

    key: str
    images: np.ndarray = field(default_factory=lambda: np.zeros(0, _LOCATION))
    cameras: np.ndarray = field(default_factory=lambda: np.zeros((0, CAMERA_COLUMNS), np.float32))
    frame_faults: Mapping[int, str] = field(default_factory=dict)
    fault: str = ""
    origin: Origin = field(default_factory=lambda: Origin("", np.zeros(0, np.int64)))
    depths: np.ndarray = field(default_factory=lambda: np.zeros(0, _LOCATION))

    @property
    def num_frames(self) -> int:
        """Number of frames, including missing frames."""
        return len(self.images)

    def image_range(self, frame: int) -> tuple[int, int]:
        """First byte and number of bytes of a frame in its chunk."""
        return _stored_range(self.images, frame)

    def depth_range(self, frame: int) -> tuple[int, int]:
        """First byte and number of bytes of the depth map of a frame in its chunk."""
        return _stored_range(self.depths, frame)

    def image_bytes(self, file: OpenFile, frame: int) -> bytes:
        """Read the encoded image of a frame from its opened chunk.

        Raises:
            ZipFormatError: the file is damaged or has changed.
        """
        return _stored_bytes(file, self.images, frame)

    def depth_bytes(self, file: OpenFile, frame: int) -> bytes:
        """Read the encoded depth map of a frame of a scene with depth from its opened chunk.

        Raises:
            ZipFormatError: the file is damaged or has changed.
        """
        return _stored_bytes(file, self.depths, frame)


def _stored_range(rows: np.ndarray, frame: int) -> tuple[int, int]:
    header, entry_size, crc, start, size = rows[frame].tolist()
    return entry_range(ZipEntry(header, entry_size, crc), start=start, size=size)


def _stored_bytes(file: OpenFile, rows: np.ndarray, frame: int) -> bytes:
    header, entry_size, crc, start, size = rows[frame].tolist()
    return read_entry(file, ZipEntry(header, entry_size, crc), start=start, size=size)


@contextmanager
def open_chunk(path: Path, *, size: int | None = None) -> Iterator[OpenFile]:
    """Open a chunk or a side index; ``size`` is its number of bytes if known, see ``opened``.

    Raises:
        BrokenSceneError: it is not a regular file, or cannot be opened or read.
    """
    try:
        with opened(path, size=size) as file:
            yield file
    except FileError as error:
        raise BrokenSceneError(f"{path}: {error}") from error
    except OSError as error:
        raise BrokenSceneError(f"{path}: it cannot be read: {error.strerror or error}") from error


def read_chunk_table(path: Path, *, posed: bool = True) -> list[SceneTable]:
    """Tables of all scenes of a chunk in stored order, including broken scenes.

    Args:
        path: the chunk.
        posed: whether the scenes must have cameras. False ignores stored cameras.

    Raises:
        BrokenSceneError: the whole file cannot be used; the message names the file and the fault.
    """
    with open_chunk(path) as file:
        try:
            _check_kind(file)
            entries = _tensor_entries(file)
            scenes = read_tree(read_entry(file, entries.pop("data.pkl")))
        except (ZipFormatError, PickleRefusedError) as error:
            raise BrokenSceneError(f"{path}: {error}") from error
        if not isinstance(scenes, list):
            raise BrokenSceneError(
                f"{path}: a chunk must hold a list of scenes, this file holds a {type(scenes).__name__}"
            )
        keys = [scene.get("key") if isinstance(scene, dict) else None for scene in scenes]
        try:
            chunk = _Chunk(file, entries, _USES * file.size)
            stated = sum(_RECORD_BYTES + (len(key) if isinstance(key, str) else 0) for key in keys)
            chunk.claim(stated, f"its {len(scenes)} scenes")
        except _SceneFaultError as error:
            raise BrokenSceneError(f"{path}: {error}") from error
        file.prefetch(_small_ranges(scenes, entries))
        return [_scene_table(chunk, scene, place, posed=posed) for place, scene in enumerate(scenes)]


@dataclass
class _Chunk:
    """An opened chunk.

    The object tree of a file can refer to one list, text or image many times, with two bytes each time. The memory of
    the scenes is therefore counted before it is allocated, so that time and memory stay proportional to the file.

    Attributes:
        file: the open file.
        entries: entries of the file by name, without the folder that torch adds.
        unclaimed: bytes that the scenes may still need.
    """

    file: OpenFile
    entries: Mapping[str, ZipEntry]
    unclaimed: int

    def claim(self, num_bytes: int, what: str) -> None:
        """Subtract memory that a scene needs from ``unclaimed``.

        Raises:
            _SceneFaultError: ``unclaimed`` is too small; it is left unchanged.
        """
        if num_bytes > self.unclaimed:
            raise _SceneFaultError(f"{what} need more bytes than the file has: it refers to the same data many times")
        self.unclaimed -= num_bytes


def _check_kind(file: OpenFile) -> None:
    start = file.read(0, 4)
    if not start:
        raise ZipFormatError("the file is empty")
    if start != b"PK\x03\x04":
        raise ZipFormatError(
            "it is not a zip file, as torch.save writes since version 1.6; it is never unpickled, because that could "
            "run code. If you trust the file: torch.save(torch.load(path, weights_only=True), new_path)"
        )


def _tensor_entries(file: OpenFile) -> dict[str, ZipEntry]:
    """The entries ``data.pkl`` and ``data/<storage>`` of a file, named without the folder that torch adds."""
    entries = read_directory(file)
    pickles = [name for name in entries if name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise ZipFormatError(f"it is not a torch file: it holds {len(pickles)} entries named data.pkl instead of 1")
    folder = pickles[0].removesuffix("data.pkl")
    inner = {name.removeprefix(folder): entry for name, entry in entries.items() if name.startswith(folder)}
    if inner["data.pkl"].size > MAX_PICKLE_BYTES:
        raise ZipFormatError(f"its object tree is larger than the {MAX_PICKLE_BYTES} bytes allowed")
    order = inner.get("byteorder")
    if order is not None and read_entry(file, order) != b"little":
        raise ZipFormatError("it was written on a big-endian machine; load and save it on this one")
    return inner


def _scene_table(chunk: _Chunk, scene: Any, position: int, *, posed: bool) -> SceneTable:
    key = scene.get("key") if isinstance(scene, dict) else None
    if not isinstance(key, str):
        return SceneTable(f"number {position}", fault="it is not a dict with a text 'key'")
    try:
        if not is_usable_key(key):
            raise _SceneFaultError(
                "its key cannot be part of a file name: it is empty, leaves the folder or is not printable"
            )
        listed = scene.get("images")
        if not isinstance(listed, list):
            raise _SceneFaultError("it has no list of images")
        if not listed:
            raise _SceneFaultError("it has no frames")
        stored = _checked_cameras(scene.get("cameras"), len(listed)) if posed else None
        images = _image_rows(chunk, listed, "image")
        origin, depths = _origin(chunk, scene, len(images)), _depth_rows(chunk, scene, len(images))
        if stored is None:
            cameras = np.zeros((len(images), CAMERA_COLUMNS), np.float32)
            return SceneTable(key, images, cameras, origin=origin, depths=depths)
        cameras = _read_cameras(chunk, stored)
    except (_SceneFaultError, ZipFormatError) as error:
        return SceneTable(key, fault=str(error))
    faults = camera_faults(cameras)
    if len(faults) == len(images):
        return SceneTable(key, fault=f"not one frame has a usable camera; frame 0: {faults[0]}")
    return SceneTable(key, images, cameras, faults, origin=origin, depths=depths)


class _SceneFaultError(ValueError):
    pass


def _small_ranges(scenes: list[Any], entries: Mapping[str, ZipEntry]) -> Iterator[tuple[int, int]]:
    """Where the cameras and timestamps of the scenes are."""
    for scene in scenes:
        for name in ("cameras", "timestamps") if isinstance(scene, dict) else ():
            tensor = scene.get(name)
            if isinstance(tensor, TensorRecord) and (entry := entries.get(f"data/{tensor.storage}")):
                yield entry_range(entry, size=min(entry.size, _MAX_SMALL))


def _origin(chunk: _Chunk, scene: Mapping[str, Any], frames: int) -> Origin:
    """The URL and the timestamps of a scene; faulty ones count as unknown, because they are optional."""
    url, times = scene.get("url"), scene.get("timestamps")
    timestamps = np.zeros(0, np.int64)
    if isinstance(times, TensorRecord) and times.dtype == "int64" and times.shape == (frames,):
        with suppress(_SceneFaultError, ZipFormatError):
            timestamps = np.frombuffer(_tensor_bytes(chunk, times, "timestamps"), np.int64)
    return Origin(url if isinstance(url, str) and len(url) <= _MAX_URL else "", timestamps)


def _depth_rows(chunk: _Chunk, scene: Mapping[str, Any], frames: int) -> np.ndarray:
    """The rows of the depth maps; none if the scene has no list of as many depth maps as frames."""
    listed = scene.get("depths")
    if isinstance(listed, list) and len(listed) == frames:
        with suppress(_SceneFaultError):
            return _image_rows(chunk, listed, "depth map")
    return np.zeros(0, _LOCATION)


def _image_rows(chunk: _Chunk, images: list[Any], kind: str) -> np.ndarray:
    what = f"its {len(images)} {kind}s"
    chunk.claim(_RECORD_BYTES * len(images), what)  # before the images are read
    rows = []
    for frame, image in enumerate(images):
        if not isinstance(image, TensorRecord) or image.dtype != "uint8" or len(image.shape) != 1:
            raise _SceneFaultError(f"{kind} {frame} is not a uint8 tensor with one axis")
        start, size = _byte_range(chunk.entries, image, f"{kind} {frame}")
        rows.append((*chunk.entries[f"data/{image.storage}"], start, size))
    chunk.claim(sum(row[-1] for row in rows), what)
    return np.array(rows, _LOCATION)


def _byte_range(entries: Mapping[str, ZipEntry], tensor: TensorRecord, what: str) -> tuple[int, int]:
    """First byte and number of bytes of a tensor in its storage, checked against the size of the storage."""
    entry = entries.get(f"data/{tensor.storage}")
    if entry is None or not tensor.contiguous:
        raise _SceneFaultError(f"{what} has no plain storage in the file")
    width = 1 if tensor.dtype == "uint8" else np.dtype(tensor.dtype).itemsize
    count = prod(tensor.shape)
    if (tensor.offset + count) * width > entry.size:
        raise _SceneFaultError(f"{what} needs {count} numbers, its storage has {entry.size // width}")
    return tensor.offset * width, count * width


def _tensor_bytes(chunk: _Chunk, tensor: TensorRecord, what: str) -> bytes:
    start, size = _byte_range(chunk.entries, tensor, what)
    return read_entry(chunk.file, chunk.entries[f"data/{tensor.storage}"], start=start, size=size)


def _checked_cameras(cameras: Any, frames: int) -> TensorRecord:
    if not isinstance(cameras, TensorRecord) or cameras.dtype not in ("float32", "float64"):
        raise _SceneFaultError("it has no tensor 'cameras' of float32")
    if cameras.shape != (frames, CAMERA_COLUMNS):
        raise _SceneFaultError(f"cameras have shape {cameras.shape}, {frames} images need ({frames}, {CAMERA_COLUMNS})")
    return cameras


def _read_cameras(chunk: _Chunk, cameras: TensorRecord) -> np.ndarray:
    data = _tensor_bytes(chunk, cameras, "cameras")
    return np.frombuffer(data, cameras.dtype).reshape(cameras.shape).astype(np.float32)
