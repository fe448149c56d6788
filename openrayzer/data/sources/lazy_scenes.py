"""Scenes found by name when a source is opened; what is in one is read when it is needed, and soon forgotten."""

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

_CACHED_TABLES = 16
_SCAN_THREADS = 8
_NAMED = 5  # faults that one message spells out


class SceneContents(ABC):
    """What is known of one scene.

    Attributes:
        frame_faults: frames that are marked missing, and why.
        remark: what is wrong besides; empty if nothing is.
    """

    frame_faults: Mapping[int, str]
    remark: str = ""

    @property
    @abstractmethod
    def num_frames(self) -> int:
        """Length of the original sequence, missing frames included."""


Contents = TypeVar("Contents", bound=SceneContents)


class LazyScenes(Dataset, Generic[Contents]):
    """A source whose scenes are files or folders below one root.

    Opening looks for the scenes, then into each, unless there are more than ``scan_limit``: then a scene is looked
    into when it is first used (``num_frames`` and ``read`` raise ``BrokenSceneError``). Memory holds the scenes' names
    and the tables of a few, or of all that were looked into. Subclasses set the attributes and say how to find and to
    load.

    Attributes:
        root: where the scenes are.
        scenes: text file that names the scenes to use, one a line; None for all.
        scan_limit: number of scenes up to which opening looks into them all.
        follow_links: whether links may lead out of ``root``.
        keep_tables: whether all tables stay in memory, for sources where they are small and dear.
    """

    keep_tables: ClassVar[bool] = False

    def __init__(self, *, root: Path | str, scenes: Path | str | None, scan_limit: int, follow_links: bool) -> None:
        super().__init__()
        self.root, self.scenes = Path(root), None if scenes is None else Path(scenes)
        self.scan_limit, self.follow_links = scan_limit, follow_links
        self._keys: list[str] = []
        self._places: list[str] = []
        self._num_frames: list[int] = []  # -1 until the scene has been looked into
        self._tables: OrderedDict[int, Contents] = OrderedDict()

    @abstractmethod
    def find(self, problems: list[str]) -> Iterable[tuple[str, Path]]:
        """Key and place of every scene; what is left out goes to ``problems``.

        Raises:
            InputError: there is nothing to look into.
        """

    @abstractmethod
    def load(self, place: Path) -> Contents:
        """What is in a scene.

        Raises:
            FileError: the whole scene cannot be used; the message says why.
            InputError: something on this machine is missing.
        """

    def open(self) -> None:
        if self.scan_limit < 0:
            raise InputError(f"scan_limit must be 0 or more, got {self.scan_limit}")
        problems: list[str] = []
        found: dict[str, Path] = {}
        for key, place in self.find(problems):
            if not is_usable_key(key):
                problems.append(f"{place}: scene {key!r} is left out: its name is not printable or leaves the folder")
            elif key in found:
                problems.append(f"{place}: scene {key!r} is left out, its name is taken by {found[key]}")
            else:
                found[key] = place
        if self.scenes is not None:
            found = _chosen(found, self.scenes, problems)
        looked: dict[str, Contents] = {}
        faults = dict.fromkeys(found, -1)
        if len(found) <= self.scan_limit:
            faults = self._look_into(found, problems, looked)
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
        """What is in a scene, read now unless it was read lately.

        Raises:
            BrokenSceneError: it cannot be used.
        """
        if scene not in self._tables:
            place = Path(self._places[scene])
            try:
                table = self.load(place)
            except FileError as error:
                raise BrokenSceneError(f"{place}: scene {self._keys[scene]!r} is left out: {error}") from error
            self._tables[scene] = table
            while len(self._tables) > _CACHED_TABLES and not self.keep_tables:
                self._tables.popitem(last=False)
        self._tables.move_to_end(scene)
        return self._tables[scene]

    def place(self, scene: int) -> Path:
        """Where a scene is."""
        return Path(self._places[scene])

    def version(self, scene: int, frame: int) -> tuple[str, str]:
        """A frame of a scene that is one file follows from that and from how the source was set."""
        place = self.place(scene)
        settings = sorted((name, str(value)) for name, value in vars(self).items() if not name.startswith("_"))
        state = file_state(place) if place.is_file() else ""
        return (f"{type(self).__name__} {place.absolute()} {settings} {frame}", state) if state else ("", "")

    def broken(self, scene: int, frame: int, fault: object) -> BrokenSceneError:
        """The error that names a scene, a frame and what is wrong with it."""
        return BrokenSceneError(f"{self._places[scene]}: scene {self._keys[scene]!r}, frame {frame}: {fault}")

    def check_frame(self, scene: int, frame: int) -> None:
        """Raise BrokenSceneError if there is no such frame, or it is marked missing."""
        table = self.table(scene)
        if not 0 <= frame < table.num_frames:
            raise self.broken(scene, frame, f"the scene has {table.num_frames} frames")
        if frame in table.frame_faults:
            raise self.broken(scene, frame, table.frame_faults[frame])

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_tables": OrderedDict()}

    def _look_into(self, found: Mapping[str, Path], problems: list[str], kept: dict[str, Contents]) -> dict[str, int]:
        """Number of frames of every scene, 0 for those that cannot be used; tables go to ``kept`` if they stay."""
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
            return 0, f"{place}: scene {key!r} is left out: not one frame can be used; frame {frame}: {fault}"
        count = len(table.frame_faults)
        problem = f"{place}: scene {key!r}: {count} frame(s) marked missing, the first is frame {frame}: {fault}"
        return table.num_frames, problem


def nothing_found(what: str, problems: Sequence[str]) -> InputError:
    """The error of a source without scenes, with the first problems that may be why."""
    return InputError("; ".join([what, *problems[:_NAMED]]))


def _chosen(found: Mapping[str, Path], names: Path, problems: list[str]) -> dict[str, Path]:
    lines = read_lines(names)
    absent = [key for key in lines if key not in found]
    problems += [f"{names}, line {lines[key]}: there is no scene {key!r}" for key in islice(absent, _NAMED)]
    if len(absent) > _NAMED:
        problems.append(f"{names}: {len(absent) - _NAMED} more scenes are not there")
    return {key: place for key, place in found.items() if key in lines}
