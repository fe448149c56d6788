"""Creation of the side index of a folder of chunks, from the tables in the chunks; no image is decoded."""

import os
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from openrayzer.data.chunk_files.scan import (
    CheckedChunk,
    NoUsableSceneError,
    SceneNames,
    check_tables,
    find_chunks,
    read_names,
    shortened,
)
from openrayzer.data.chunk_files.side_index import FRAME, ChunkState, chunk_state, image_faults, writing_frame_index
from openrayzer.data.chunk_files.table import SceneTable, open_chunk, read_chunk_table
from openrayzer.data.chunk_files.zip_entries import ZipEntry, ZipFormatError, content_offset, entry_range
from openrayzer.data.pixels.decoding import stated_size
from openrayzer.data.preparing.processes import parallel_results
from openrayzer.interfaces import BrokenSceneError, InputError
from openrayzer.machine.opened_files import OpenFile
from openrayzer.machine.plain_files import MAX_FILE_BYTES
from openrayzer.machine.progress import BYTES, with_progress
from openrayzer.machine.remote_paths import located

_BEGINNING = 2048
"""First bytes of an image that usually include its size; long EXIF data may move the size further back."""

_LONG_BEGINNING = 1 << 17
_BYTES_PER_PROCESS = 1 << 28
"""Bytes of chunks per process; a smaller amount takes less time than starting a process."""


@dataclass(frozen=True)
class IndexReport:
    """Contents of a side index.

    Attributes:
        num_chunks: number of chunks.
        num_scenes: number of usable scenes.
        num_frames: number of their frames, including missing frames.
        num_bytes: size of the index.
        chunk_bytes: size of all chunks.
        problems: faults of the folder, one sentence each.
    """

    num_chunks: int
    num_scenes: int
    num_frames: int
    num_bytes: int
    chunk_bytes: int
    problems: tuple[str, ...]


def index_chunks(folder: Path | str, output: Path | str, *, processes: int, posed: bool = True) -> IndexReport:
    """Write the side index of the chunks in ``folder`` to the file ``output``.

    Raises:
        NoUsableSceneError: the folder has no usable scene; no index is written.
        InputError: there are no chunks, or the index cannot be written.
    """
    chunks = find_chunks(located(folder))
    looked = look_at_chunks(chunks, range(len(chunks)), processes=processes, posed=posed)
    return write_chunk_index(located(folder), Path(output), chunks, looked, posed=posed)


def write_chunk_index(
    folder: Path, output: Path, chunks: Sequence[Path], looked: Iterable["LookedAtChunk"], *, posed: bool
) -> IndexReport:
    """Write the side index of a folder from its chunks, in order.

    Raises:
        NoUsableSceneError: the folder has no usable scene; no index is written.
        InputError: the index cannot be written.
    """
    problems = list[str]()
    names = SceneNames(chunks, read_names(folder, chunks, problems), problems)
    num_scenes = num_frames = 0
    try:
        with writing_frame_index(output, posed=posed) as writer:
            for number, chunk in enumerate(looked):
                writer.chunks.append(chunk.state)
                for place in names.choose(number, chunk.checked):
                    rows, cameras = chunk.scenes[place]
                    key = chunk.checked.scenes[place].key
                    writer.add(key, number, rows, cameras)
                    problems += _image_problems(chunks[number], key, rows)
                    num_scenes, num_frames = num_scenes + 1, num_frames + len(rows)
            if not num_scenes:
                raise NoUsableSceneError(
                    f"no usable scene in {folder}: {shortened(problems) or 'its chunks are empty'}"
                )
            writer.problems += [problem.replace(f"{folder}{os.sep}", "") for problem in problems]
    except OSError as error:
        raise InputError(f"{output} cannot be written: {error.strerror or error}") from error
    size = sum(map(chunk_bytes, chunks))
    return IndexReport(len(chunks), num_scenes, num_frames, output.stat().st_size, size, tuple(problems))


@dataclass(frozen=True)
class LookedAtChunk:
    """The tables of one chunk.

    Attributes:
        state: state of the file.
        checked: its scenes, with their faults.
        scenes: rows of the frames and cameras of each scene; empty arrays for a scene that is left out.
    """

    state: ChunkState
    checked: CheckedChunk
    scenes: Sequence[tuple[np.ndarray, np.ndarray]] = ()


def look_at_chunks(
    chunks: Sequence[Path], numbers: range, *, processes: int, posed: bool = True
) -> Iterator[LookedAtChunk]:
    """Yield the tables of some chunks of a folder, in order.

    Args:
        chunks: all chunks of the folder.
        numbers: the chunks to look at.
        processes: largest number of processes.
        posed: whether the scenes must have cameras.
    """
    sizes = {number: chunk_bytes(chunks[number]) for number in numbers}
    total = sum(sizes.values())
    processes = min(processes, 1 + total // _BYTES_PER_PROCESS)
    looked = parallel_results(partial(_look_at, chunks, posed), numbers, processes=processes)
    title = f"index {chunks[0].parent.name}"
    for _, chunk in with_progress(looked, total=total, unit=BYTES, title=title, amount=lambda item: sizes[item[0]]):
        yield chunk


def _look_at(chunks: Sequence[Path], posed: bool, number: int) -> LookedAtChunk:
    path = chunks[number]
    try:
        state = chunk_state(path)  # before the tables, so that a change in between is noticed later
        tables = read_chunk_table(path, posed=posed)
        checked = check_tables(path, lambda _: tables)
        with open_chunk(path) as file:
            return LookedAtChunk(state, checked, [(_rows(file, table), table.cameras) for table in tables])
    except (BrokenSceneError, ZipFormatError) as error:
        fault = str(error) if isinstance(error, BrokenSceneError) else f"{path}: {error}"
        return LookedAtChunk(_state_or_none(path), CheckedChunk(fault=fault))


def _image_problems(path: Path, key: str, rows: np.ndarray) -> list[str]:
    faults = image_faults(rows)
    for frame in np.flatnonzero(rows["height"] == 0).tolist():
        faults.setdefault(frame, "its header states no size, so it may not be an image")
    if not faults:
        return []
    frame = min(faults)
    return [f"{path}: scene {key!r}: {len(faults)} frame(s) look broken, the first is frame {frame}: {faults[frame]}"]


def chunk_bytes(path: Path) -> int:
    """Size of a chunk; 0 for a broken link, whose fault opening reports."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _state_or_none(path: Path) -> ChunkState:
    try:
        return chunk_state(path)
    except BrokenSceneError:
        return ChunkState(path.name, -1, 0, "")  # ``is_unchanged`` is False for this state


def _rows(file: OpenFile, table: SceneTable) -> np.ndarray:
    rows = np.zeros(table.num_frames, FRAME)
    file.prefetch(_beginnings(table))
    for frame, (header, entry_size, crc, start, size) in enumerate(table.images.tolist()):
        content, begin = content_offset(file, header, start=start, size=min(size, _BEGINNING))
        height, width = stated_size(begin)
        if not height and size > _BEGINNING:
            height, width = stated_size(file.read(content + start, min(size, _LONG_BEGINNING)))
        if size != entry_size:  # several images share an entry, and its checksum covers all of them
            crc = _checksum(file, content + start, size)
        rows[frame] = (content + start, min(size, 0xFFFFFFFF), crc, height, width)
    return rows


def _beginnings(table: SceneTable) -> Iterator[tuple[int, int]]:
    """The ranges of a chunk that ``_rows`` reads."""
    for header, entry_size, crc, start, size in table.images.tolist():
        entry = ZipEntry(header, entry_size, crc)
        yield entry_range(entry, start=start, size=min(size, _BEGINNING if size == entry_size else MAX_FILE_BYTES))


def _checksum(file: OpenFile, offset: int, size: int) -> int:
    return zlib.crc32(file.read(offset, size)) if size <= MAX_FILE_BYTES else 0
