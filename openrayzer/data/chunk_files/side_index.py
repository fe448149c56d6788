"""Side index of a folder of chunks: one file with the position of every frame. Readers need not search chunks.

Layout of ``frame_index.bin``: 8 bytes of magic; for each scene the rows of its frames (``FRAME``) and of its cameras
(18 float32 each); a JSON object with the chunks, the scenes and the problems; its length, its CRC-32, 8 bytes of magic.
The index holds file names without folders, so its folder can be moved. All content is checked: sizes against the
file, rows against their checksum and the size of the chunk, images against their checksum.
"""

import hashlib
import json
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from openrayzer.data.chunk_files.format import CAMERA_COLUMNS
from openrayzer.data.chunk_files.table import SceneTable, open_chunk
from openrayzer.data.chunk_files.zip_entries import ZipFormatError
from openrayzer.data.pixels.decoding import MAX_PIXELS
from openrayzer.data.scene_names import is_usable_key
from openrayzer.data.stated_cameras import camera_faults
from openrayzer.interfaces import BrokenSceneError
from openrayzer.machine.opened_files import OpenFile
from openrayzer.machine.plain_files import MAX_FILE_BYTES
from openrayzer.machine.remote_copies import local_copy
from openrayzer.machine.remote_paths import RemotePath
from openrayzer.machine.writing import whole_file

FRAME_INDEX_NAME = "frame_index.bin"
FRAME = np.dtype([("offset", "<i8"), ("size", "<u4"), ("crc", "<u4"), ("height", "<u4"), ("width", "<u4")])
"""First byte of an image in its chunk, number of bytes, their CRC-32, and the height and width in its header (0 if
not found)."""

_BEGIN, _END, _VERSION = b"ORZFIDX1", b"1XDIFZRO", 1
_TRAILER = struct.Struct("<QI8s")
_CAMERA_BYTES = 4 * CAMERA_COLUMNS
_FRAME_BYTES = FRAME.itemsize + _CAMERA_BYTES
_ENDS = 1 << 18  # bytes at each end of a chunk in its fingerprint; the zip directory is at the end


class FrameIndexError(ValueError):
    """A side index that cannot be used; the message gives the reason without the name of the file."""


@dataclass(frozen=True)
class ChunkState:
    """Name, size in bytes, time of the last change in ns and fingerprint of a chunk when it was indexed."""

    name: str
    size: int
    modified: int
    fingerprint: str


@dataclass(frozen=True)
class IndexedTable(SceneTable):
    """One scene of a side index; its ``images`` are rows of ``FRAME``."""

    def image_range(self, frame: int) -> tuple[int, int]:
        offset, size, *_ = self.images[frame].tolist()
        return offset, size

    def image_bytes(self, file: OpenFile, frame: int) -> bytes:
        offset, size, crc, _, _ = self.images[frame].tolist()
        data = file.read(offset, size)
        if len(data) < size:
            raise ZipFormatError(f"the {size} bytes from byte {offset} are not complete")
        if zlib.crc32(data) != crc:
            raise ZipFormatError(f"the {size} bytes from byte {offset} do not match their checksum")
        return data


@dataclass(frozen=True)
class FrameIndex:
    """A side index of chunks that have not changed.

    Attributes:
        path: the file.
        copy: the file, or its local copy if it is remote.
        keys: names of the scenes.
        chunk_of: number of the chunk of each scene, in the list of chunks given to ``read_frame_index``.
        num_frames: number of frames of each scene.
        problems: faults found when the index was made, one sentence each.
        posed: whether the index has cameras.
        starts: first byte of the rows of each scene.
        checksums: CRC-32 of the rows of each scene.
        chunk_sizes: bytes of each chunk.
        sound: one byte per scene; 1 after its rows and cameras were checked without a fault.
    """

    path: Path
    copy: Path
    keys: list[str]
    chunk_of: list[int]
    num_frames: list[int]
    problems: tuple[str, ...]
    posed: bool
    starts: list[int]
    checksums: list[int]
    chunk_sizes: list[int]
    sound: bytearray

    def table(self, scene: int) -> IndexedTable:
        """The table of one scene.

        Raises:
            BrokenSceneError: the index is damaged or has changed.
        """
        count, chunk_size = self.num_frames[scene], self.chunk_sizes[self.chunk_of[scene]]
        with open_chunk(self.copy) as file:
            block = file.read(self.starts[scene], count * _FRAME_BYTES)
        if len(block) < count * _FRAME_BYTES or zlib.crc32(block) != self.checksums[scene]:
            raise BrokenSceneError(f"{self.path}: scene {self.keys[scene]!r} does not match its checksum; {REMEDY}")
        rows = np.frombuffer(block, FRAME, count)
        cameras = np.frombuffer(block, "<f4", offset=count * FRAME.itemsize).reshape(count, CAMERA_COLUMNS)
        if self.sound[scene]:
            return IndexedTable(self.keys[scene], rows, cameras)
        ends = rows["offset"] + rows["size"].astype(np.int64)
        if (rows["offset"] < 0).any() or (ends > chunk_size).any() or (rows["size"] > MAX_FILE_BYTES).any():
            raise BrokenSceneError(
                f"{self.path}: scene {self.keys[scene]!r} lies beyond the end of its chunk; {REMEDY}"
            )
        faults = image_faults(rows) | (camera_faults(cameras) if self.posed else {})
        self.sound[scene] = not faults
        return IndexedTable(self.keys[scene], rows, cameras, faults)


REMEDY = "make it again with: openrayzer prepare index"


class FrameIndexWriter:
    """Writer of a side index, scene by scene; made by ``writing_frame_index``.

    Attributes:
        chunks: states of the chunks; scenes refer to them by number.
        problems: faults of the folder, one sentence each.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._scenes: list[tuple[str, int, int, int]] = []
        self.chunks: list[ChunkState] = []
        self.problems: list[str] = []
        file.write(_BEGIN)

    def add(self, key: str, chunk: int, rows: np.ndarray, cameras: np.ndarray) -> None:
        """Write the rows (f,) of ``FRAME`` and the cameras (f, 18) of a scene."""
        block = rows.astype(FRAME).tobytes() + cameras.astype("<f4").tobytes()
        self._file.write(block)
        self._scenes.append((key, chunk, len(rows), zlib.crc32(block)))

    def finish(self, *, posed: bool) -> None:
        """Write the JSON object and the end of the file."""
        states = [[chunk.name, chunk.size, chunk.modified, chunk.fingerprint] for chunk in self.chunks]
        head = {"version": _VERSION, "posed": posed, "chunks": states, "scenes": self._scenes,
                "problems": self.problems}  # fmt: skip
        text = json.dumps(head, ensure_ascii=True, separators=(",", ":")).encode()
        self._file.write(text + _TRAILER.pack(len(text), zlib.crc32(text), _END))


@contextmanager
def writing_frame_index(path: Path, *, posed: bool) -> Iterator[FrameIndexWriter]:
    """Yield a writer; the file appears at ``path`` when the block ends without an error.

    Raises:
        OSError: the file cannot be written, e.g. because the disk is full.
    """
    with whole_file(path) as temporary, open(temporary, "wb") as file:
        writer = FrameIndexWriter(file)
        yield writer
        writer.finish(posed=posed)


def read_frame_index(path: Path, chunks: Sequence[Path], *, posed: bool) -> FrameIndex:
    """Read the side index of exactly the given chunks.

    Args:
        path: the file.
        chunks: all chunks of the folder.
        posed: whether the index must have cameras.

    Raises:
        FrameIndexError: the index is damaged, or the chunks have changed since it was made.
    """
    copy, head, body = _copied_head(path)
    try:
        return _checked_index(path, copy, head, body, chunks, posed=posed)
    except (LookupError, TypeError, ValueError, OverflowError) as error:
        raise error if isinstance(error, FrameIndexError) else FrameIndexError("its table is malformed") from error


def indexed_chunks(path: Path) -> list[str]:
    """Names of the chunks that a side index lists.

    Raises:
        FrameIndexError: the index is damaged or cannot be read.
    """
    _, head, _ = _copied_head(path)
    try:
        return [str(state[0]) for state in head["chunks"]]
    except (LookupError, TypeError) as error:
        raise FrameIndexError("its table is malformed") from error


def _copied_head(path: Path) -> tuple[Path, dict[str, Any], int]:
    """The local copy of an index, its JSON object and the number of bytes before it."""
    try:
        copy = local_copy(path)
        with open_chunk(copy) as file:
            return copy, *_read_head(file)
    except BrokenSceneError as error:
        raise FrameIndexError(str(error).removeprefix(f"{copy}: ")) from error
    except OSError as error:
        raise FrameIndexError(f"it cannot be read: {error.strerror or error}") from error


def _read_head(file: OpenFile) -> tuple[dict[str, Any], int]:
    """The JSON object and the number of bytes before it."""
    length = file.size
    trailer = file.read(max(length - _TRAILER.size, 0), _TRAILER.size)
    if length < len(_BEGIN) + _TRAILER.size or file.read(0, len(_BEGIN)) != _BEGIN:
        raise FrameIndexError("it is not a side index of this version")
    size, checksum, end = _TRAILER.unpack(trailer)
    body = length - _TRAILER.size - size
    if end != _END or body < len(_BEGIN):
        raise FrameIndexError("it is cut short")
    text = file.read(body, size)
    if len(text) < size or zlib.crc32(text) != checksum:
        raise FrameIndexError("its table does not match its checksum")
    try:
        head = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FrameIndexError("its table is not JSON") from error
    if not isinstance(head, dict) or head.get("version") != _VERSION:
        raise FrameIndexError("it is not a side index of this version")
    return head, body


def _checked_index(
    path: Path, copy: Path, head: Mapping[str, Any], body: int, chunks: Sequence[Path], *, posed: bool
) -> FrameIndex:
    if head["posed"] is not posed:
        raise FrameIndexError("it was made without cameras" if posed else "it was made for scenes with cameras")
    states = [ChunkState(*state) for state in head["chunks"]]
    numbers = _unchanged(states, chunks)
    keys, places, counts, checksums = (list(column) for column in zip(*head["scenes"], strict=True))
    whole = [isinstance(number, int) and number >= 0 for number in (*places, *counts, *checksums)]
    texts = [isinstance(text, str) for text in (*keys, *head["problems"])]
    if not all(whole) or not all(texts) or len(set(keys)) != len(keys) or not all(map(is_usable_key, keys)):
        raise FrameIndexError("its table is malformed")
    starts = list(accumulate((count * _FRAME_BYTES for count in counts), initial=len(_BEGIN)))
    if 0 in counts or starts.pop() != body:
        raise FrameIndexError("its table does not fit its rows")
    chunk_of = [numbers[place] for place in places]
    sizes = {numbers[place]: state.size for place, state in enumerate(states)}
    problems = tuple(f"{path.parent}: {problem}" for problem in head["problems"])
    chunk_sizes = [sizes[number] for number in range(len(chunks))]
    return FrameIndex(
        path, copy, keys, chunk_of, counts, problems, posed, starts, checksums, chunk_sizes, bytearray(len(keys))
    )


def _unchanged(states: Sequence[ChunkState], chunks: Sequence[Path]) -> list[int]:
    """The number in ``chunks`` of each indexed chunk; all chunks must be unchanged."""
    numbers = {chunk.name: number for number, chunk in enumerate(chunks)}
    gone = [state.name for state in states if state.name not in numbers]
    fresh = numbers.keys() - {state.name for state in states}
    if gone or fresh or len(states) != len(chunks):
        some = f"{gone[0]} is gone" if gone else f"{min(fresh)} is new" if fresh else "it lists a chunk twice"
        raise FrameIndexError(f"the chunks have changed since: {some}")
    for state in states:
        now = chunks[numbers[state.name]]
        if not is_unchanged(now, state):
            raise FrameIndexError(f"the chunks have changed since: {state.name} has other content")
    return [numbers[state.name] for state in states]


def image_faults(rows: np.ndarray) -> dict[int, str]:
    """Faults of rows (f,) of ``FRAME`` that are visible without decoding: frame -> fault."""
    heights, widths = rows["height"].astype(np.int64), rows["width"].astype(np.int64)
    faults = dict.fromkeys(np.flatnonzero(rows["size"] == 0).tolist(), "it has no bytes")
    for frame in np.flatnonzero(heights * widths > MAX_PIXELS).tolist():
        stated = f"{widths[frame]} x {heights[frame]}"
        faults[frame] = f"its header says {stated} pixels, more than the {MAX_PIXELS} allowed"
    return faults


def chunk_state(path: Path) -> ChunkState:
    """The present state of a chunk.

    Raises:
        BrokenSceneError: the chunk cannot be read.
    """
    with open_chunk(path) as file:
        return ChunkState(path.name, file.size, path.stat().st_mtime_ns, _fingerprint(file))


def is_unchanged(path: Path, state: ChunkState) -> bool:
    """Whether size and time of the last change of a chunk are the same as in ``state``.

    If only the time differs, as after copying, the fingerprint decides; it covers the zip directory with the checksums
    of all entries. A remote chunk has the same content if a listing states the same size, or none, because asking for
    the ends of every chunk would take minutes; the checksums of the frames notice other content.
    """
    if isinstance(path, RemotePath):
        return path.stated_size in (-1, state.size)
    try:
        status = path.stat()
        if status.st_size != state.size or status.st_mtime_ns == state.modified:
            return status.st_size == state.size
        return chunk_state(path).fingerprint == state.fingerprint
    except (OSError, BrokenSceneError):
        return False


def _fingerprint(file: OpenFile) -> str:
    ends = file.read(0, _ENDS), file.read(max(file.size - _ENDS, 0), _ENDS)
    return hashlib.sha256(b"".join(ends)).hexdigest()[:32]
