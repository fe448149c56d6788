"""Dataset ``chunks``: RealEstate10K, ACID and DL3DV in the ``.torch`` files of pixelSplat, read in place."""

import json
from collections import OrderedDict, defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal, NamedTuple

from openrayzer.data.chunk_format import INDEX_NAME, rows_to_cameras
from openrayzer.data.chunk_table import SceneTable, open_descriptor, read_chunk_table, read_image_bytes
from openrayzer.data.image_files import ImageError, decode_image
from openrayzer.data.zip_entries import ZipFormatError
from openrayzer.interfaces import DATASETS, BrokenSceneError, Dataset, Frames, InputError

_CACHED_TABLES = 8
_SCAN_THREADS = 8
_NAMED = 5  # faults that one message spells out


class _Checked(NamedTuple):
    """What opening remembers of a scene: ``num_frames`` is 0 where it is left out."""

    key: str
    num_frames: int
    problem: str


@DATASETS.register("chunks")
class Chunks(Dataset):
    """pixelSplat's .torch chunks, read in place: no conversion, and nothing in the files can run code.

    Opening checks every scene of every chunk, unless there are more than ``scan_limit`` chunks and ``index.json``
    names their scenes: then it is believed, and a scene is checked when it is first used (``num_frames`` and ``read``
    raise ``BrokenSceneError``). Memory holds the names of the scenes and the tables of a few chunks.

    Args:
        root: folder with the folders train and test.
        split: which of the two.
        scan_limit: number of chunks up to which opening checks them all; some 20 ms each per 100 MB.
    """

    posed = True

    def __init__(self, *, root: Path, split: Literal["train", "test"] = "train", scan_limit: int = 64) -> None:
        if scan_limit < 0:
            raise InputError(f"scan_limit must be 0 or more, got {scan_limit}")
        self.root, self.split, self.scan_limit = root, split, scan_limit
        self._keys: list[str] = []
        self._chunk_of: list[int] = []
        self._num_frames: list[int] = []  # -1 until the scene's chunk has been looked at
        self._chunks: list[Path] = []
        self._tables: OrderedDict[int, dict[str, SceneTable]] = OrderedDict()

    def open(self) -> None:
        folder = _chunk_folder(self.root, self.split)
        self._chunks = sorted(folder.glob("*.torch"))
        if not self._chunks:
            there = ", ".join(sorted(path.name for path in folder.iterdir())[:_NAMED]) or "nothing"
            raise InputError(f"no chunks: looked for {folder / '*.torch'}, found {there}")
        self._keys, self._chunk_of, self._num_frames = [], [], []
        self._tables.clear()
        problems: list[str] = []
        index = _read_index(folder, problems)
        numbers = {path.name: number for number, path in enumerate(self._chunks)}
        for key, name in index.items():
            if name not in numbers:
                problems.append(f"{folder / INDEX_NAME}: scene {key!r} is said to be in {name!r}, which is not there")
        listed = {key: numbers[name] for key, name in index.items() if name in numbers}
        if len(self._chunks) > self.scan_limit:
            for key, chunk in listed.items():
                self._add(key, chunk, -1)
        trusted = set(self._chunk_of)
        self._scan([number for number in range(len(self._chunks)) if number not in trusted], listed, problems)
        self.problems = tuple(problems)
        if not self._keys:
            raise InputError(
                f"no usable scene in {folder}: {'; '.join(_shortened(problems)) or 'its chunks are empty'}"
            )

    def __len__(self) -> int:
        return len(self._keys)

    def key(self, scene: int) -> str:
        return self._keys[scene]

    def num_frames(self, scene: int) -> int:
        """Length of the original sequence.

        Raises:
            BrokenSceneError: the scene was not checked when the source was opened, and cannot be used.
        """
        if self._num_frames[scene] < 0:
            self._num_frames[scene] = self._table(scene).num_frames
        return self._num_frames[scene]

    def read(self, scene: int, frames: Sequence[int]) -> Frames:
        table, path = self._table(scene), self._chunks[self._chunk_of[scene]]
        images = []
        with open_descriptor(path) as descriptor:
            for frame in frames:
                fault = table.frame_faults.get(frame, "")
                if not 0 <= frame < table.num_frames:
                    fault = f"the scene has {table.num_frames} frames"
                try:
                    if not fault:
                        images.append(decode_image(read_image_bytes(descriptor, table.images[frame])))
                except (ImageError, ZipFormatError) as error:
                    fault = str(error)
                if fault:
                    raise BrokenSceneError(f"{path}: scene {table.key!r}, frame {frame}: {fault}")
        c2w, intrinsics = rows_to_cameras(table.cameras[list(frames)])
        return Frames(images, c2w, intrinsics)

    def _table(self, scene: int) -> SceneTable:
        chunk, key = self._chunk_of[scene], self._keys[scene]
        path = self._chunks[chunk]
        if chunk not in self._tables:
            tables: dict[str, SceneTable] = {}
            for table in read_chunk_table(path):
                if table.key not in tables or tables[table.key].fault:
                    tables[table.key] = table
            self._tables[chunk] = tables
            while len(self._tables) > _CACHED_TABLES:
                self._tables.popitem(last=False)
        self._tables.move_to_end(chunk)
        found = self._tables[chunk].get(key)
        if found is None:
            raise BrokenSceneError(f"{path}: it has no scene {key!r}, although {INDEX_NAME} says so")
        if found.fault:
            raise BrokenSceneError(_scene_problem(path, found))
        return found

    def _add(self, key: str, chunk: int, num_frames: int) -> None:
        self._keys.append(key)
        self._chunk_of.append(chunk)
        self._num_frames.append(num_frames)

    def _scan(self, chunks: Sequence[int], listed: Mapping[str, int], problems: list[str]) -> None:
        """Check chunks completely; what is wrong goes to ``problems``, what is usable is added."""
        taken = {key: self._chunk_of[scene] for scene, key in enumerate(self._keys)}
        expected: defaultdict[int, set[str]] = defaultdict(set)
        for key, chunk in listed.items():
            expected[chunk].add(key)
        with ThreadPoolExecutor(_SCAN_THREADS) as pool:
            checked = pool.map(_check_chunk, [self._chunks[chunk] for chunk in chunks])
            for chunk, scenes in zip(chunks, checked, strict=True):
                if isinstance(scenes, str):
                    problems.append(scenes)
                else:
                    self._take(chunk, scenes, taken, problems)
                    problems += _index_problems(self._chunks[chunk], scenes, expected[chunk] if listed else None)

    def _take(self, chunk: int, scenes: Sequence[_Checked], taken: dict[str, int], problems: list[str]) -> None:
        path = self._chunks[chunk]
        for scene in scenes:
            if scene.problem:
                problems.append(scene.problem)
            if scene.num_frames and scene.key in taken:
                first = self._chunks[taken[scene.key]].name
                problems.append(f"{path}: scene {scene.key!r} is left out, its name is taken by one in {first}")
            elif scene.num_frames:
                taken[scene.key] = chunk
                self._add(scene.key, chunk, scene.num_frames)


def _check_chunk(path: Path) -> list[_Checked] | str:
    """What is worth remembering of a chunk, or why it cannot be used; tables are read again when needed."""
    try:
        tables = read_chunk_table(path)
    except BrokenSceneError as error:
        return str(error)
    checked = []
    for table in tables:
        problem = _scene_problem(path, table) if table.fault else ""
        if table.frame_faults:
            frame, fault = next(iter(table.frame_faults.items()))
            count = len(table.frame_faults)
            problem = (
                f"{path}: scene {table.key!r}: {count} frame(s) marked missing, the first is frame {frame}: {fault}"
            )
        checked.append(_Checked(table.key, 0 if table.fault else table.num_frames, problem))
    return checked


def _index_problems(path: Path, scenes: Sequence[_Checked], expected: set[str] | None) -> list[str]:
    """How a chunk differs from what ``index.json`` says of it; ``expected`` is None where there is no index."""
    if expected is None:
        return []
    problems = []
    found, index = {scene.key for scene in scenes}, path.parent / INDEX_NAME
    for key in sorted(expected - found):
        problems.append(f"{index}: scene {key!r} is said to be in {path.name}, which has no such scene")
    if found - expected:
        some = ", ".join(map(repr, sorted(found - expected)[:_NAMED]))
        problems.append(f"{index}: {len(found - expected)} scene(s) of {path.name} are not named: {some}")
    return problems


def _scene_problem(path: Path, table: SceneTable) -> str:
    return f"{path}: scene {table.key!r} is left out: {table.fault}"


def _chunk_folder(root: Path, split: str) -> Path:
    """``root/split``, or an error that says which part is not there and what is."""
    if not root.exists():
        near = next(parent for parent in root.absolute().parents if parent.exists())
        raise InputError(f"there is no folder {root}; the nearest that exists is {near}, with {_folders(near)}")
    if not root.is_dir():
        raise InputError(f"{root} is a file; root must be the folder that holds the folders train and test")
    folder = root / split
    if folder.is_dir():
        return folder
    hint = ""
    if any(root.glob("*.torch")):
        hint = f"; {root} itself holds chunks, so root should be {root.absolute().parent} if its name is train or test"
    raise InputError(f"{root} has no folder {split!r}; it has {_folders(root)}{hint}")


def _folders(folder: Path) -> str:
    names = sorted(path.name for path in folder.iterdir() if path.is_dir())
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"the folders {', '.join(names[:_NAMED])}{more}" if names else "no folders"


def _read_index(folder: Path, problems: list[str]) -> dict[str, str]:
    """Scene key -> chunk name; empty, with a sentence in ``problems``, where the file is damaged."""
    path = folder / INDEX_NAME
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        problems.append(f"{path} cannot be read ({error}); all chunks were looked through instead")
        return {}
    if not isinstance(index, dict) or not all(isinstance(name, str) for name in index.values()):
        problems.append(f"{path} is no object of scene names and file names; all chunks were looked through instead")
        return {}
    return index


def _shortened(problems: Sequence[str]) -> list[str]:
    rest = len(problems) - _NAMED
    return [*problems[:_NAMED], *([f"and {rest} more"] if rest > 0 else [])]
