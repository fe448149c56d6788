"""Dataset ``webdataset``: videos in tar archives, as WebDataset writes them."""

import re
import tarfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path, PurePosixPath

from openrayzer.data.scene_names import relative_key
from openrayzer.data.sources.lazy_scenes import nothing_found
from openrayzer.data.sources.video import VIDEO_SUFFIXES, Video
from openrayzer.data.sources.video_decoder import VideoFile
from openrayzer.interfaces import DATASETS, InputError
from openrayzer.machine.opened_files import opened
from openrayzer.machine.plain_files import (
    FileError,
    check_plain_file,
    file_state,
    find_folders,
    is_file,
    list_folder,
    require_folder,
)
from openrayzer.machine.remote_copies import remembered
from openrayzer.machine.remote_paths import RemotePath

SUFFIX = ".tar"
_RANGE = re.compile(r"\{([0-9]+)\.\.([0-9]+)\}")
_PACKED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")  # gzip, bzip2, xz, zstd
_THREADS = 8
_META = re.compile(r"__[^/]*__(/|$)")
"""Members that WebDataset skips."""


@DATASETS.register("webdataset")
class VideoTars(Video):
    """Tar archives of WebDataset with videos, such as RayDer's: each video is one scene without cameras.

    The name of a scene is the archive's name and that of the video without its ending, in WebDataset the key of the
    sample: ``000012/clip_7`` for ``clip_7.mp4`` in 000012.tar. Other members of a sample are ignored. Opening reads the
    headers of all archives; a video is read where it lies, without unpacking. Compressed archives must be unpacked.
    Source of the conventions: https://github.com/webdataset/webdataset, "The WebDataset Format".

    Args:
        root: an archive, a folder with archives up to 6 levels below it, or a pattern such as
            ``/data/clips-{000000..000127}.tar`` or ``https://host/clips-{000000..000127}.tar``.
        fps: frames per second to use; each is the frame that a player shows at this time. None uses every frame.
        scenes: text file with the names of the scenes to use, one per line; None for all scenes.
        scan_limit: largest number of videos that opening checks.
        follow_links: whether links may lead out of ``root``.
    """

    def __init__(
        self,
        *,
        root: Path | str,
        fps: float | None = None,
        scenes: Path | str | None = None,
        scan_limit: int = 16,
        follow_links: bool = False,
    ) -> None:
        super().__init__(root=root, fps=fps, scenes=scenes, scan_limit=scan_limit, follow_links=follow_links)
        self._parts: dict[str, tuple[int, int]] = {}  # place of a scene -> its first byte and the byte after its last

    def find(self, problems: list[str]) -> Iterable[tuple[str, Path]]:
        self._parts = {}
        places: list[tuple[str, Path]] = []
        archives = dict(self._archives(problems))
        root = None if self.follow_links else self._confines
        with ThreadPoolExecutor(_THREADS) as pool:
            for (name, path), (videos, fault) in zip(
                archives.items(), pool.map(partial(_videos, root=root), archives.values()), strict=True
            ):
                problems += [f"{path}: {fault}"] if fault else []
                for member, part in videos.items():
                    places.append((f"{name}/{member.with_suffix('')}", path / member))
                    self._parts.setdefault(str(path / member), part)
        if not places:
            suffixes = ", ".join(sorted(VIDEO_SUFFIXES))
            raise nothing_found(f"no videos in the tar archives of {self.root}: looked for {suffixes}", problems)
        return places

    def file_of(self, place: Path) -> VideoFile:
        archive = next(path for path in place.parents if path.suffix == SUFFIX and path.is_file())
        return VideoFile(archive, *self._parts[str(place)])

    def version(self, scene: int, frame: int) -> tuple[str, str]:
        video = self.file_of(self.place(scene))
        state = file_state(video.path)
        return (f"webdataset {video} {self.fps} {frame}", state) if state else ("", "")

    @property
    def _confines(self) -> Path:
        return self.root.absolute() if self.root.is_dir() else self.root.absolute().parent

    def _archives(self, problems: list[str]) -> Iterator[tuple[str, Path]]:
        """Name and path of each archive."""
        if _RANGE.search(self.root.name):
            yield from ((path.stem, path) for path in _expanded(self.root))
        elif self.root.suffix == SUFFIX and is_file(self.root):
            yield self.root.stem, self.root
        else:
            require_folder(self.root)
            is_archive = partial(_any_ends, suffix=SUFFIX)
            for folder in find_folders(
                self.root, is_archive, follow_links=self.follow_links, problems=problems, nested=True
            ):
                for name in list_folder(folder)[0]:
                    if name.endswith(SUFFIX):
                        yield relative_key(folder / name, self.root).removesuffix(SUFFIX), folder / name


def _any_ends(names: list[str], suffix: str) -> bool:
    return any(name.endswith(suffix) for name in names)


def _expanded(pattern: Path) -> Iterator[Path]:
    """The paths of a pattern: ``{000..127}`` stands for the numbers from 000 to 127.

    Raises:
        InputError: the range is empty or has more than a million numbers.
    """
    found = _RANGE.search(pattern.name)
    if found is None:
        yield pattern
        return
    first, last = found.groups()
    if not 0 <= int(last) - int(first) < 1_000_000:
        raise InputError(f"{pattern}: {found.group()} must rise and have at most a million numbers")
    for number in range(int(first), int(last) + 1):
        name = pattern.name[: found.start()] + str(number).zfill(len(first)) + pattern.name[found.end() :]
        yield from _expanded(pattern.with_name(name))


def _videos(path: Path, *, root: Path | None) -> tuple[dict[PurePosixPath, tuple[int, int]], str]:
    """First byte and the byte after the last of each video in an archive, and the fault of the archive or of a name."""
    try:
        check_plain_file(path, root=root)
        found, fault = remembered(path, partial(_members, path))
    except (FileError, OSError) as error:
        return {}, getattr(error, "strerror", None) or str(error)
    return {PurePosixPath(name): (start, end) for name, (start, end) in found.items()}, fault


def _members(path: Path) -> tuple[dict[str, tuple[int, int]], str]:
    """The same, with names as texts.

    Raises:
        OSError: a remote archive cannot be read.
    """
    videos: dict[str, tuple[int, int]] = {}
    fault = ""
    try:
        with opened(path) as file, file.stream() as stream:
            if file.read(0, 6).startswith(_PACKED):
                return {}, "it is compressed; unpack it, because frames are read where they lie"
            with tarfile.open(fileobj=stream, mode="r:") as archive:
                for member in archive:
                    name = PurePosixPath(member.name.removeprefix("./"))
                    if not member.isreg() or name.suffix.lower() not in VIDEO_SUFFIXES or _META.match(str(name)):
                        continue
                    if name.is_absolute() or ".." in name.parts or str(name) in videos:
                        fault = (
                            fault or f"{member.name!r:.120} is left out: its name stands twice or leaves the archive"
                        )
                    elif member.sparse is not None or member.offset_data + member.size > file.size:
                        fault = fault or f"{member.name!r:.120} is left out: the archive is cut short"
                    elif member.size:
                        videos[str(name)] = (member.offset_data, member.offset_data + member.size)
    except InputError:
        raise
    except (tarfile.TarError, OSError, EOFError, ValueError) as error:
        if isinstance(path, RemotePath) and isinstance(error, OSError) and not isinstance(error, tarfile.TarError):
            raise
        fault = fault or f"it cannot be read to its end: {error}"
    return videos, fault
