"""Search of a folder of chunks: its usable scenes, and the faults of all other scenes."""

import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from openrayzer.data.chunk_files.format import INDEX_NAME
from openrayzer.data.chunk_files.table import SceneTable
from openrayzer.interfaces import BrokenSceneError, InputError
from openrayzer.machine.plain_files import FileError, read_json_object

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


def find_chunks(folder: Path) -> list[Path]:
    """The chunks of a folder, sorted by name.

    Raises:
        InputError: the folder has no chunks; the message lists the files that it has.
    """
    try:
        chunks = sorted(folder.glob("*.torch"))
        if chunks:
            return chunks
        there = ", ".join(sorted(path.name for path in folder.iterdir())[:_NAMED]) or "nothing"
    except OSError as error:
        raise InputError(f"{folder} cannot be listed: {error.strerror or error}") from error
    raise InputError(f"no chunks: looked for {folder / '*.torch'}, found {there}")


def chunk_folder(root: Path, split: str) -> Path:
    """The folder ``root/split``.

    Raises:
        InputError: there is no such folder; the message lists the folders that exist.
    """
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


def read_names(folder: Path, chunks: Sequence[Path], problems: list[str]) -> dict[str, int]:
    """Read ``index.json``: scene name -> number of its chunk.

    A missing or damaged file gives an empty dict; ``problems`` gets a sentence on a damaged one.
    """
    path = folder / INDEX_NAME
    if not os.path.lexists(path):
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


def _folders(folder: Path) -> str:
    names = sorted(path.name for path in folder.iterdir() if path.is_dir())
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"the folders {', '.join(names[:_NAMED])}{more}" if names else "no folders"
