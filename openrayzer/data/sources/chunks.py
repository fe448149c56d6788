"""Dataset ``chunks``: RealEstate10K, ACID and DL3DV in pixelSplat's ``.torch`` files, read in place."""

import logging
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from fnmatch import filter as matching
from functools import partial
from pathlib import Path

import numpy as np

from openrayzer.data.chunk_files.depth_maps import read_depth
from openrayzer.data.chunk_files.format import INDEX_NAME, Origin, rows_to_cameras
from openrayzer.data.chunk_files.scan import (
    NoUsableSceneError,
    SceneNames,
    check_tables,
    chunk_folder,
    find_chunks,
    is_there,
    read_names,
    scene_problem,
    shortened,
)
from openrayzer.data.chunk_files.side_index import (
    FRAME_INDEX_NAME,
    REMEDY,
    FrameIndex,
    FrameIndexError,
    indexed_chunks,
    read_frame_index,
)
from openrayzer.data.chunk_files.table import SceneTable, open_chunk, read_chunk_table
from openrayzer.data.chunk_files.zip_entries import ZipFormatError
from openrayzer.data.pixels.decoding import ImageError, decode_image
from openrayzer.data.pixels.scaled_decoding import wanted_size
from openrayzer.data.scene_names import read_lines
from openrayzer.interfaces import DATASETS, BrokenSceneError, Dataset, Frames, InputError
from openrayzer.machine.plain_files import file_state
from openrayzer.machine.remote_paths import forget_listings, located

LOG = logging.getLogger(__name__)

_CACHED_TABLES = 32 * 2**20  # bytes; about 2500 scenes of 100 frames
_SCAN_THREADS = 8


@DATASETS.register("chunks")
class Chunks(Dataset):
    """pixelSplat's .torch chunks, read in place: no conversion, and no code in the files can run.

    Opening checks every scene of every chunk if there are at most ``scan_limit`` chunks. With more chunks it trusts
    ``index.json`` and checks a scene on first use (``num_frames`` and ``read`` then raise ``BrokenSceneError``).
    Memory holds the names of the scenes and the tables of the latest chunks, up to 32 MiB. Beyond 32 MiB of tables,
    every clip has to read the table of a chunk again. A side index, written by ``openrayzer prepare index``, avoids
    this; an index of other chunks is ignored.

    Args:
        root: folder with the folders train and test; it may be remote, such as ``s3://bucket/re10k``.
        split: name of the folder in ``root``.
        scan_limit: largest number of chunks that opening checks; about 0.1 s per chunk of 100 MB with small frames.
        frame_index: the side index; None uses frame_index.bin beside the chunks if it exists.
        posed: whether the scenes have cameras; False reads all scenes without cameras.
        scenes: text file with the names of the scenes to use, one per line; None for all scenes.
        chunks: names of the chunks to use, or patterns such as "0000??.torch"; empty for all chunks.
    """

    def __init__(
        self,
        *,
        root: Path | str,
        split: str = "train",
        scan_limit: int = 64,
        frame_index: Path | str | None = None,
        posed: bool = True,
        scenes: Path | str | None = None,
        chunks: tuple[str, ...] = (),
    ) -> None:
        if scan_limit < 0:
            raise InputError(f"scan_limit must be 0 or more, got {scan_limit}")
        self.root, self.split, self.scan_limit, self.posed = located(root), split, scan_limit, posed
        self.frame_index = None if frame_index is None else located(frame_index)
        self.scenes = None if scenes is None else located(scenes)
        self.chunks = tuple(chunks)
        self._index: FrameIndex | None = None
        self._place_in_index: list[int] = []
        self._keys: list[str] = []
        self._chunk_of: list[int] = []
        self._num_frames: list[int] = []  # -1 until the chunk of the scene is checked
        self._chunks: list[Path] = []
        self._tables: OrderedDict[int, dict[str, SceneTable]] = OrderedDict()
        self._cached_bytes = 0

    def open(self) -> None:
        forget_listings(self.root)
        folder = chunk_folder(self.root, self.split)
        self._chunks = find_chunks(folder, indexed=partial(self._indexed_chunks, folder))
        self._keys, self._chunk_of, self._num_frames = [], [], []
        self._tables.clear()
        self._cached_bytes = 0
        problems: list[str] = []
        self._index = self._read_index(folder, problems)
        if self._index is None:
            self._look_through(folder, problems)
        else:
            self._keys, self._chunk_of = self._index.keys, self._index.chunk_of
            self._num_frames = self._index.num_frames
            problems += self._index.problems
        self._choose(problems)
        self.problems = tuple(problems)
        if not self._keys:
            raise NoUsableSceneError(f"no usable scene in {folder}: {shortened(problems) or 'its chunks are empty'}")

    def __len__(self) -> int:
        return len(self._keys)

    def key(self, scene: int) -> str:
        return self._keys[scene]

    def num_frames(self, scene: int) -> int:
        """Length of the original sequence.

        Raises:
            BrokenSceneError: opening did not check the scene, and it cannot be used.
        """
        if self._num_frames[scene] < 0:
            self._num_frames[scene] = self._table(scene).num_frames
        return self._num_frames[scene]

    def read(self, scene: int, frames: Sequence[int]) -> Frames:
        return Frames.joined(self.stream(scene, frames))

    def stream(self, scene: int, frames: Sequence[int]) -> Iterator[Frames]:
        table, path = self._table(scene), self._chunks[self._chunk_of[scene]]
        for frame in frames:
            known = 0 <= frame < table.num_frames
            fault = table.frame_faults.get(frame, "") if known else f"the scene has {table.num_frames} frames"
            if fault:
                raise BrokenSceneError(f"{path}: scene {table.key!r}, frame {frame}: {fault}")
        cameras = rows_to_cameras(table.cameras[list(frames)]) if self.posed else (None, None)
        size = None if self._index is None else self._index.chunk_sizes[self._chunk_of[scene]]
        with open_chunk(path, size=size) as file:
            file.prefetch(map(table.image_range, dict.fromkeys(frames)))
            for place, frame in enumerate(frames):
                try:
                    image = decode_image(table.image_bytes(file, frame), covering=wanted_size())
                except (ImageError, ZipFormatError) as error:
                    raise BrokenSceneError(f"{path}: scene {table.key!r}, frame {frame}: {error}") from error
                one = slice(place, place + 1)
                yield Frames([image], *(part if part is None else part[one] for part in cameras))

    def depths(self, scene: int, frames: Sequence[int]) -> list[np.ndarray] | None:
        """Depth maps of a scene, read from the chunk; a side index does not store them. See ``Dataset.depths``."""
        table, path = self._table_in_chunk(scene), self._chunks[self._chunk_of[scene]]
        if not len(table.depths):
            return None
        maps = []
        with open_chunk(path) as file:
            file.prefetch(map(table.depth_range, dict.fromkeys(frames)))
            for frame in frames:
                try:
                    maps.append(read_depth(table.depth_bytes(file, frame)))
                except (ImageError, ZipFormatError) as error:
                    raise BrokenSceneError(f"{path}: scene {table.key!r}, depth of frame {frame}: {error}") from error
        return maps

    def version(self, scene: int, frame: int) -> tuple[str, str]:
        path = self._chunks[self._chunk_of[scene]]
        return f"{path.absolute()} {self.posed} {self._keys[scene]} {frame}", file_state(path)

    def origin(self, scene: int) -> Origin:
        """URL and timestamps of the scene, read from the chunk; a side index does not store them."""
        return self._table_in_chunk(scene).origin

    def _table(self, scene: int) -> SceneTable:
        if self._index is not None:
            return self._index.table(self._place_in_index[scene])
        return self._table_in_chunk(scene)

    def _table_in_chunk(self, scene: int) -> SceneTable:
        chunk, key = self._chunk_of[scene], self._keys[scene]
        path = self._chunks[chunk]
        if chunk not in self._tables:
            tables: dict[str, SceneTable] = {}
            for table in read_chunk_table(path, posed=self.posed):
                if table.key not in tables or tables[table.key].fault:
                    tables[table.key] = table
            self._keep(chunk, tables)
        self._tables.move_to_end(chunk)
        found = self._tables[chunk].get(key)
        if found is None:
            raise BrokenSceneError(f"{path}: it has no scene {key!r}, although {INDEX_NAME} lists it")
        if found.fault:
            raise BrokenSceneError(scene_problem(path, found))
        return found

    def _keep(self, chunk: int, tables: dict[str, SceneTable]) -> None:
        """Cache the tables of a chunk; drop the least recently used tables if the cache is too large."""
        self._tables[chunk] = tables
        self._cached_bytes += _memory(tables)
        while self._cached_bytes > _CACHED_TABLES and len(self._tables) > 1:
            _, forgotten = self._tables.popitem(last=False)
            self._cached_bytes -= _memory(forgotten)

    def _read_index(self, folder: Path, problems: list[str]) -> FrameIndex | None:
        """The side index, or None without a usable one; ``problems`` gets a sentence on an unusable index."""
        path = self._index_path(folder)
        if self.frame_index is None and not is_there(path):
            return None
        try:
            return read_frame_index(path, self._chunks, posed=self.posed)
        except FrameIndexError as error:
            problems.append(f"{path} is not used: {error}; {REMEDY}")
            return None

    def _index_path(self, folder: Path) -> Path:
        return self.frame_index or folder / FRAME_INDEX_NAME

    def _indexed_chunks(self, folder: Path) -> list[str]:
        with suppress(FrameIndexError):
            return indexed_chunks(self._index_path(folder))
        return []

    def _choose(self, problems: list[str]) -> None:
        """Keep only the scenes that ``scenes`` lists, in the chunks that ``chunks`` lists."""
        places = list(range(len(self._keys)))
        if self.chunks:
            patterns = {pattern: matching([chunk.name for chunk in self._chunks], pattern) for pattern in self.chunks}
            unmatched = [pattern for pattern, found in patterns.items() if not found]
            if unmatched:
                raise InputError(f"chunks: no chunk of {self.root / self.split} has the name {', '.join(unmatched)}")
            used = {name for found in patterns.values() for name in found}
            places = [place for place in places if self._chunks[self._chunk_of[place]].name in used]
        if self.scenes is not None:
            listed = read_lines(self.scenes)
            places = [place for place in places if self._keys[place] in listed]
            absent = list(listed.keys() - set(self._keys))
            if absent:
                problems.append(f"{self.scenes}: {len(absent)} scene(s) do not exist, such as {min(absent)!r}")
        self._place_in_index = places
        self._keys = [self._keys[place] for place in places]
        self._chunk_of = [self._chunk_of[place] for place in places]
        self._num_frames = [self._num_frames[place] for place in places]

    def _look_through(self, folder: Path, problems: list[str]) -> None:
        """Find the scenes without a side index."""
        listed = read_names(folder, self._chunks, problems)
        names = SceneNames(self._chunks, listed, problems)
        if len(self._chunks) > self.scan_limit:
            LOG.info(
                "%s has no side index, so reading a clip may take longer; to make one: "
                "openrayzer prepare index %s",
                folder, self.root,
            )  # fmt: skip
            for key, chunk in listed.items():
                names.take(key, chunk)
                self._add(key, chunk, -1)
        trusted = set(self._chunk_of)
        unknown = [chunk for chunk in range(len(self._chunks)) if chunk not in trusted]
        read = partial(read_chunk_table, posed=self.posed)
        with ThreadPoolExecutor(_SCAN_THREADS) as pool:
            looked = pool.map(lambda chunk: check_tables(self._chunks[chunk], read), unknown)
            for chunk, checked in zip(unknown, looked, strict=True):
                for place in names.choose(chunk, checked):
                    self._add(checked.scenes[place].key, chunk, checked.scenes[place].num_frames)

    def _add(self, key: str, chunk: int, num_frames: int) -> None:
        self._keys.append(key)
        self._chunk_of.append(chunk)
        self._num_frames.append(num_frames)


def _memory(tables: dict[str, SceneTable]) -> int:
    """Approximate bytes of the tables of a chunk."""
    arrays = (
        array
        for table in tables.values()
        for array in (table.images, table.cameras, table.origin.timestamps, table.depths)
    )
    return sum(array.nbytes for array in arrays) + 1000 * len(tables)
