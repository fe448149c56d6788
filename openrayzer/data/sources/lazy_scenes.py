"""Datasets that find the names of their scenes when they are opened and read the contents of a scene on use."""

from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from openrayzer.data.scene_names import is_usable_key, read_lines
from openrayzer.interfaces import BrokenSceneError, Dataset, InputError
from openrayzer.machine.plain_files import FileError, file_state
from openrayzer.machine.remote_paths import RemotePath, forget_listings, located

_CACHED_TABLES = 16
_CACHED_REMOTE_TABLES = 512
_SCAN_THREADS = 8
_NAMED = 5  # faults that one message lists


class SceneContents(ABC):
    """The contents of one scene, without its images.

    Attributes:
        frame_faults: number of each missing frame -> its fault.
        remark: another fault of the scene; empty if there is none.
    """

    frame_faults: Mapping[int, str]
    remark: str = ""

    @property
    @abstractmethod
    def num_frames(self) -> int:
        """Length of the original sequence, including missing frames."""


Contents = TypeVar("Contents", bound=SceneContents)


class LazyScenes(Dataset, Generic[Contents]):
    """A dataset whose scenes are files or folders below one root; a subclass finds and loads them.

    Opening finds the scenes and, if there are at most ``scan_limit`` of them, checks each one. Otherwise a scene is
    checked on first use (``num_frames`` and ``read`` then raise ``BrokenSceneError``). Memory holds the names of all
    scenes and the contents of a few.

    Attributes:
        keep_tables: whether the contents of all scenes stay in memory; for contents that are small and slow to read.

    Args:
        root: the folder of the scenes, or a file for some datasets; it may be remote, such as
            ``s3://bucket/photos``.
        scenes: text file with the names of the scenes to use, one per line; None for all scenes.
        scan_limit: largest number of scenes that opening checks.
        follow_links: whether links may lead out of ``root``.
    """

    keep_tables: ClassVar[bool] = False

    def __init__(self, *, root: Path | str, scenes: Path | str | None, scan_limit: int, follow_links: bool) -> None:
        super().__init__()
        self.root, self.scenes = located(root), None if scenes is None else located(scenes)
        self.scan_limit, self.follow_links = scan_limit, follow_links
        self._keys: list[str] = []
        self._places: list[str] = []
        self._num_frames: list[int] = []  # -1 until the scene is loaded
        self._tables: OrderedDict[int, Contents] = OrderedDict()

    @property
    def _cached_tables(self) -> int:
        """Number of scenes whose contents stay in memory; a remote scene takes requests to load again."""
        return _CACHED_REMOTE_TABLES if isinstance(self.root, RemotePath) else _CACHED_TABLES

    @abstractmethod
    def find(self, problems: list[str]) -> Iterable[tuple[str, Path]]:
        """Name and path of every scene.

        Args:
            problems: list to extend with one sentence for each path that is left out.

        Raises:
            InputError: there are no scenes.
        """

    @abstractmethod
    def load(self, place: Path) -> Contents:
        """Read the contents of the scene at a path.

        Raises:
            FileError: the whole scene cannot be used; the message gives the reason.
            InputError: a package that reading needs is not installed.
        """

    def open(self) -> None:
        if self.scan_limit < 0:
            raise InputError(f"scan_limit must be 0 or more, got {self.scan_limit}")
        forget_listings(self.root)
        problems: list[str] = []
        found: dict[str, Path] = {}
        for key, place in self.find(problems):
            if not is_usable_key(key):
                problems.append(
                    f"{place}: scene {key!r} is left out, because its name is not printable or leaves the folder"
                )
            elif key in found:
                problems.append(f"{place}: scene {key!r} is left out, because {found[key]} has the same name")
            else:
                found[key] = place
        if self.scenes is not None:
            found = _chosen(found, self.scenes, problems)
        looked: dict[str, Contents] = {}
        faults = dict.fromkeys(found, -1)
        if len(found) <= self.scan_limit:
            faults = self._load_all(found, problems, looked)
        self._keys = [key for key in found if faults[key]]
        self._places = [str(found[key]) for key in self._keys]
        self._num_frames = [faults[key] for key in self._keys]
        self._tables.clear()
        self._tables.update((scene, looked[key]) for scene, key in enumerate(self._keys) if key in looked)
        self.problems = tuple(problems)
        if not self._keys:
            some = [*problems[:_NAMED], *([f"and {len(problems) - _NAMED} more"] if len(problems) > _NAMED else [])]
            raise InputError(f"no usable scene in {self.root}: {'; '.join(some) or 'it is empty'}")

    def __len__(self) -> int:
        return len(self._keys)

    def key(self, scene: int) -> str:
        return self._keys[scene]

    def num_frames(self, scene: int) -> int:
        if self._num_frames[scene] < 0:
            self._num_frames[scene] = self.table(scene).num_frames
        return self._num_frames[scene]

    def table(self, scene: int) -> Contents:
        """The contents of a scene, cached for the scenes read last.

        Raises:
            BrokenSceneError: the scene cannot be used.
        """
        if scene not in self._tables:
            place = self.place(scene)
            try:
                table = self.load(place)
            except FileError as error:
                raise BrokenSceneError(f"{place}: scene {self._keys[scene]!r} is left out: {error}") from error
            self._tables[scene] = table
            while len(self._tables) > self._cached_tables and not self.keep_tables:
                self._tables.popitem(last=False)
        self._tables.move_to_end(scene)
        return self._tables[scene]

    def place(self, scene: int) -> Path:
        """Path of a scene."""
        return type(self.root)(self._places[scene])

    def version(self, scene: int, frame: int) -> tuple[str, str]:
        """For a scene that is one file: a frame depends on the file and the arguments of the dataset."""
        place = self.place(scene)
        settings = sorted((name, str(value)) for name, value in vars(self).items() if not name.startswith("_"))
        state = file_state(place) if place.is_file() else ""
        return (f"{type(self).__name__} {place.absolute()} {settings} {frame}", state) if state else ("", "")

    def broken(self, scene: int, frame: int, fault: object) -> BrokenSceneError:
        """The error for a fault of a frame; its message names the scene and the frame."""
        return BrokenSceneError(f"{self._places[scene]}: scene {self._keys[scene]!r}, frame {frame}: {fault}")

    def check_frame(self, scene: int, frame: int) -> None:
        """Raise BrokenSceneError if the frame does not exist or is marked missing."""
        table = self.table(scene)
        if not 0 <= frame < table.num_frames:
            raise self.broken(scene, frame, f"the scene has {table.num_frames} frames")
        if frame in table.frame_faults:
            raise self.broken(scene, frame, table.frame_faults[frame])

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_tables": OrderedDict()}

    def _load_all(self, found: Mapping[str, Path], problems: list[str], kept: dict[str, Contents]) -> dict[str, int]:
        """Load every scene: name -> number of frames, or 0 for a scene that cannot be used.

        With ``keep_tables``, ``kept`` receives the contents.
        """
        look = partial(self._num_frames_and_problem, kept=kept)
        with ThreadPoolExecutor(_SCAN_THREADS) as pool:
            looked = dict(zip(found, pool.map(look, found, found.values()), strict=True))
        problems += [problem for _, problem in looked.values() if problem]
        return {key: num_frames for key, (num_frames, _) in looked.items()}

    def _num_frames_and_problem(self, key: str, place: Path, *, kept: dict[str, Contents]) -> tuple[int, str]:
        try:
            table = self.load(place)
        except FileError as error:
            return 0, f"{place}: scene {key!r} is left out: {error}"
        if self.keep_tables:
            kept[key] = table
        if not table.num_frames:
            return 0, f"{place}: scene {key!r} is left out: it has no frames"
        if not table.frame_faults:
            return table.num_frames, f"{place}: scene {key!r}: {table.remark}" if table.remark else ""
        frame, fault = next(iter(sorted(table.frame_faults.items())))
        if len(table.frame_faults) == table.num_frames:
            return 0, f"{place}: scene {key!r} is left out: no frame can be used; frame {frame}: {fault}"
        count = len(table.frame_faults)
        problem = f"{place}: scene {key!r}: {count} frame(s) marked missing, the first is frame {frame}: {fault}"
        return table.num_frames, problem


def nothing_found(what: str, problems: Sequence[str]) -> InputError:
    """The error of a dataset without scenes, with its first problems, which may be the cause."""
    return InputError("; ".join([what, *problems[:_NAMED]]))


def _chosen(found: Mapping[str, Path], names: Path, problems: list[str]) -> dict[str, Path]:
    lines = read_lines(names)
    absent = [key for key in lines if key not in found]
    problems += [f"{names}, line {lines[key]}: there is no scene {key!r}" for key in islice(absent, _NAMED)]
    if len(absent) > _NAMED:
        problems.append(f"{names}: {len(absent) - _NAMED} more scenes do not exist")
    return {key: place for key, place in found.items() if key in lines}
