"""Search of a folder of chunks: its usable scenes, and the faults of all other scenes."""

import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from openrayzer.data.chunk_files.format import INDEX_NAME
from openrayzer.data.chunk_files.table import SceneTable
from openrayzer.interfaces import BrokenSceneError, InputError
from openrayzer.machine.plain_files import FileError, folders_in, is_file, list_folder, nearest_folder, read_json_object
from openrayzer.machine.remote_paths import RemotePath
from openrayzer.machine.remote_requests import WEB

SUFFIX = ".torch"
_NAMED = 5  # names that one message lists


class NoUsableSceneError(InputError):
    """A folder that exists and has no usable scene."""


@dataclass(frozen=True)
class CheckedScene:
    """Summary of a scene of a chunk; ``num_frames`` is 0 if the scene cannot be used."""

    key: str
    num_frames: int
    problem: str = ""


@dataclass(frozen=True)
class CheckedChunk:
    """The scenes of a chunk, or the fault of the whole chunk."""

    scenes: Sequence[CheckedScene] = ()
    fault: str = ""


def check_tables(path: Path, read: Callable[[Path], Sequence[SceneTable]]) -> CheckedChunk:
    """Check the scenes of a chunk. ``read`` returns its tables or raises ``BrokenSceneError``."""
    try:
        return CheckedChunk([_checked(path, table) for table in read(path)])
    except BrokenSceneError as error:
        return CheckedChunk(fault=str(error))


def _checked(path: Path, table: SceneTable) -> CheckedScene:
    if table.fault:
        return CheckedScene(table.key, 0, scene_problem(path, table))
    if not table.frame_faults:
        return CheckedScene(table.key, table.num_frames)
    frame, fault = next(iter(table.frame_faults.items()))
    count = len(table.frame_faults)
    problem = f"{path}: scene {table.key!r}: {count} frame(s) marked missing, the first is frame {frame}: {fault}"
    return CheckedScene(table.key, table.num_frames, problem)


class SceneNames:
    """The choice of scenes from several chunks: the first usable scene of each name.

    Args:
        chunks: the chunk files.
        listed: scene name -> number of its chunk, from ``index.json``; empty without such a file.
        problems: list to extend with one sentence for each scene that is left out and each difference from
            ``index.json``.
    """

    def __init__(self, chunks: Sequence[Path], listed: Mapping[str, int], problems: list[str]) -> None:
        self.chunks, self.problems = chunks, problems
        self._taken: dict[str, int] = {}
        self._expected: defaultdict[int, set[str]] | None = defaultdict(set) if listed else None
        for key, chunk in listed.items():
            self._expected[chunk].add(key)  # type: ignore[index]

    def take(self, key: str, chunk: int) -> None:
        """Use a scene without checking it."""
        self._taken[key] = chunk

    def choose(self, chunk: int, checked: CheckedChunk) -> Iterator[int]:
        """Yield the positions in a chunk of the scenes to use."""
        path = self.chunks[chunk]
        if checked.fault:
            self.problems.append(checked.fault)
            return
        for place, scene in enumerate(checked.scenes):
            if scene.problem:
                self.problems.append(scene.problem)
            if scene.num_frames and scene.key in self._taken:
                first = self.chunks[self._taken[scene.key]].name
                self.problems.append(
                    f"{path}: scene {scene.key!r} is left out, because {first} has a scene of the same name"
                )
            elif scene.num_frames:
                self._taken[scene.key] = chunk
                yield place
        if self._expected is not None:
            self.problems += _index_problems(path, {scene.key for scene in checked.scenes}, self._expected[chunk])


def find_chunks(folder: Path, *, indexed: Callable[[], Sequence[str]] = tuple) -> list[Path]:
    """The chunks of a folder, sorted by name.

    Args:
        folder: the folder.
        indexed: names of the chunks by a side index, for a web server that lists no folders.

    Raises:
        InputError: the folder has no chunks; the message lists the files that it has.
    """
    try:
        files, folders = list_folder(folder)
        names = [*files, *folders]
        fault = f"found {', '.join(sorted(names)[:_NAMED]) or 'nothing'}"
    except OSError as error:
        if not isinstance(folder, RemotePath):
            raise InputError(f"{folder} cannot be listed: {error.strerror or error}") from error
        names, fault = [], f"it cannot be listed: {error.strerror or error}"
    chunks = sorted(folder / name for name in names if name.endswith(SUFFIX))
    if not chunks and isinstance(folder, RemotePath) and folder.protocol in WEB:
        listed = {*indexed(), *_stated_names(folder)}
        chunks = sorted(folder / name for name in listed if name.endswith(SUFFIX) and "/" not in name)
        fault += f"; a web server that lists no folders needs {INDEX_NAME} or a side index there"
    if chunks:
        return chunks
    raise InputError(f"no chunks: looked for {folder / '*.torch'}, {fault}")


def _stated_names(folder: Path) -> Iterable[str]:
    try:
        return [name for name in read_json_object(folder / INDEX_NAME, root=None).values() if isinstance(name, str)]
    except FileError:
        return []


def chunk_folder(root: Path, split: str) -> Path:
    """The folder ``root/split``.

    Raises:
        InputError: there is no such folder; the message lists the folders that exist.
    """
    folder = root / split
    if isinstance(root, RemotePath):
        if root.protocol in WEB:
            return folder  # its files tell whether it exists
        try:
            files, folders = list_folder(root)
        except FileNotFoundError as error:
            raise InputError(f"there is no folder {root}, or it is empty; {nearest_folder(root)}") from error
        except OSError as error:
            raise InputError(f"{root} cannot be listed: {error.strerror or error}") from error
        found = split in folders
    else:
        if not root.exists():
            raise InputError(f"there is no folder {root}; {nearest_folder(root)}")
        if not root.is_dir():
            raise InputError(f"{root} is a file; root must be the folder that holds the folders train and test")
        files, found = [path.name for path in root.iterdir()], folder.is_dir()
    if found:
        return folder
    hint = ""
    if any(name.endswith(SUFFIX) for name in files):
        hint = f"; {root} itself holds chunks, so root should be {root.absolute().parent} if its name is train or test"
    raise InputError(f"{root} has no folder {split!r}; it has {folders_in(root)}{hint}")


def read_names(folder: Path, chunks: Sequence[Path], problems: list[str]) -> dict[str, int]:
    """Read ``index.json``: scene name -> number of its chunk.

    A missing or damaged file gives an empty dict; ``problems`` gets a sentence on a damaged one.
    """
    path = folder / INDEX_NAME
    if not is_there(path):
        return {}
    try:
        index = read_json_object(path, root=None)
    except FileError as error:
        problems.append(f"{path}: {error}; the program searched all chunks instead")
        return {}
    if not all(isinstance(name, str) for name in index.values()):
        problems.append(
            f"{path} is not an object of scene names and file names; the program searched all chunks instead"
        )
        return {}
    numbers = {chunk.name: number for number, chunk in enumerate(chunks)}
    for key, name in index.items():
        if name not in numbers:
            problems.append(f"{path}: scene {key!r} should be in {name!r}, which does not exist")
    return {key: numbers[name] for key, name in index.items() if name in numbers}


def is_there(path: Path) -> bool:
    """Whether there is a file, or a link even if it is broken."""
    return is_file(path) if isinstance(path, RemotePath) else os.path.lexists(path)


def scene_problem(path: Path, table: SceneTable) -> str:
    """The sentence on a scene that is left out."""
    return f"{path}: scene {table.key!r} is left out: {table.fault}"


def shortened(problems: Sequence[str]) -> str:
    """The first few problems, and the number of the others."""
    rest = len(problems) - _NAMED
    return "; ".join([*problems[:_NAMED], *([f"and {rest} more"] if rest > 0 else [])])


def _index_problems(path: Path, found: set[str], expected: set[str]) -> Iterable[str]:
    """Differences between a chunk and its entries in ``index.json``."""
    index = path.parent / INDEX_NAME
    for key in sorted(expected - found):
        yield f"{index}: scene {key!r} should be in {path.name}, which has no such scene"
    if found - expected:
        some = ", ".join(map(repr, sorted(found - expected)[:_NAMED]))
        yield f"{index}: {len(found - expected)} scene(s) of {path.name} are not listed: {some}"
