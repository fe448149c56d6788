"""Reading of untrusted files and folders: size limits, links, regular files only, JSON, natural order.

The paths may be remote, see ``remote_paths``.
"""

import json
import os
import re
import stat
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from openrayzer.interfaces import InputError
from openrayzer.machine.opened_files import FileError, opened
from openrayzer.machine.remote_paths import RemotePath, entries_of
from openrayzer.machine.remote_requests import WEB, FilePart, fetched

MAX_FILE_BYTES = 1 << 28
"""Default size limit in bytes; images and tables of one scene are much smaller."""

MAX_TABLE_BYTES = 1 << 25
"""Size limit of JSON tables in bytes: parsing needs about twenty times as much memory. 32 MB hold 30,000 cameras."""

MAX_DEPTH = 6
"""Number of levels below the root that are searched for scenes."""

Listed = tuple[list[str], list[str]]
"""Names of files and of folders."""

_NAMED = 5  # folders that one message lists
_LISTING_THREADS = 16


def read_plain_file(path: Path, *, root: Path | None, limit: int = MAX_FILE_BYTES) -> bytes:
    """Content of a regular file.

    Args:
        path: the file.
        root: folder that the file must lie in after links are followed; None for any place.
        limit: largest allowed size in bytes; a larger file is not read.

    Raises:
        FileError: the file is missing, not a regular file, too large, outside of ``root``, or cannot be read.
    """
    return next(read_plain_files([path], root=root, limit=limit))


def read_plain_files(paths: Sequence[Path], *, root: Path | None, limit: int = MAX_FILE_BYTES) -> Iterator[bytes]:
    """Contents of regular files of one file system, in order; see ``read_plain_file``.

    Remote files are requested at the same time; files of the local disk are read one by one, when they are asked for.

    Raises:
        FileError: see ``read_plain_file``; for the first file that cannot be used.
    """
    remote = [path for path in paths if isinstance(path, RemotePath)]
    parts: list[FilePart] = []
    with _as_file_errors():
        for file, entry in zip(remote, entries_of(remote), strict=True):
            _check_inside(file, root)
            _check_size(entry.size, limit)
            parts.append(FilePart(file.address, 0, None if entry.size < 0 else entry.size))
        contents = fetched(parts)
    for path in paths:
        with _as_file_errors():
            if isinstance(path, RemotePath):
                content = contents.pop(0)
                if isinstance(content, OSError):
                    raise content
                _check_size(len(content), limit)
            else:
                _check_inside(path, root)
                with opened(path) as local:
                    size = local.size
                    _check_size(size, limit)
                    content = local.read(0, size)
        yield content


def check_plain_file(path: Path, *, root: Path | None) -> None:
    """Raise FileError unless ``path`` is a regular file and, if ``root`` is given, lies inside it."""
    with _as_file_errors():
        _check_inside(path, root)
        if not stat.S_ISREG(path.stat().st_mode):
            raise FileError("it is not a regular file")


def is_file(path: Path) -> bool:
    """Whether there is a regular file.

    Raises:
        InputError: the answer is unknown, because access is denied or the disk fails.
    """
    try:
        return path.is_file()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error


@contextmanager
def _as_file_errors() -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise FileError("there is no such file") from error
    except OSError as error:
        raise FileError(f"it cannot be read: {error.strerror or error}") from error
    except (FileError, InputError):
        raise
    except ValueError as error:  # a zero byte in the name
        raise FileError(f"it cannot be read: {error}") from error


def _check_inside(path: Path, root: Path | None) -> None:
    if root is not None and not within(path, root):
        raise FileError(f"it is a link to {os.path.realpath(path)}, outside of {root} (follow_links allows that)")


def _check_size(size: int, limit: int) -> None:
    if size > limit:
        raise FileError(f"it has {size} bytes, more than the {limit} allowed")


def file_state(path: Path) -> str:
    """A text that changes with a file; empty if the file is missing, or if its server states no such thing.

    For a local file: size, time of the last change and inode. For a remote file: size, and time or checksum.
    """
    try:
        if isinstance(path, RemotePath):
            return path.entry().state
        status = path.stat()
    except InputError:
        raise
    except (OSError, ValueError):
        return ""
    return f"{status.st_size} {status.st_mtime_ns} {status.st_ino}"


def read_json(path: Path, *, root: Path | None, limit: int) -> Any:
    """Content of a JSON file. NaN and infinities are accepted, so that callers can report their position.

    Args:
        path, root, limit: see ``read_plain_file``.

    Raises:
        FileError: see ``read_plain_file``; or the file is not JSON.
    """
    content = read_plain_file(path, root=root, limit=limit)
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise FileError(f"it is not JSON, was it cut short? {error}") from error


def read_json_object(path: Path, *, root: Path | None, limit: int = MAX_TABLE_BYTES) -> dict[str, Any]:
    """The object in a JSON file; see ``read_json``.

    Raises:
        FileError: see ``read_json``; or the file does not hold an object.
    """
    content = read_json(path, root=root, limit=limit)
    if not isinstance(content, dict):
        raise FileError(f"it holds a {type(content).__name__}, not an object")
    return content


def within(path: Path, root: Path) -> bool:
    """Whether a path lies in a folder after all links are followed; remote file systems have no links."""
    if isinstance(path, RemotePath) or isinstance(root, RemotePath):
        return ".." not in path.parts and path.is_relative_to(root)
    real, folder = os.path.realpath(path), os.path.realpath(root)
    return real == folder or real.startswith(folder.rstrip(os.sep) + os.sep)


def inner_name(name: Any, folder: Path) -> str:
    """A file name from the table of a scene, relative to the folder of the scene.

    Raises:
        FileError: the name is not a text, or it leaves the folder.
    """
    if not isinstance(name, str) or not name.strip() or "\0" in name:
        raise FileError(f"{name!r:.60} is not a file name")
    parts = PurePosixPath(name.replace("\\", "/"))
    if parts.is_absolute() and parts.is_relative_to(base := folder.absolute().as_posix()):
        parts = parts.relative_to(base)
    if parts.is_absolute() or ".." in parts.parts:
        raise FileError(f"its file name {name!r:.120} leaves the scene's folder")
    return parts.as_posix()


def find_folders(
    root: Path,
    is_scene: Callable[[list[str]], bool],
    *,
    follow_links: bool,
    problems: list[str],
    nested: bool = False,
    others: Callable[[Path, list[str]], None] | None = None,
) -> Iterator[Path]:
    """Yield the folders of scenes, ``root`` itself or below it, in natural order. Hidden folders are ignored.

    Args:
        root: the folder to search.
        is_scene: whether a folder with these file names is a scene.
        follow_links: whether to follow links to folders outside of ``root``.
        problems: list to extend with one sentence for each ignored link and each folder that cannot be listed.
        nested: whether to search the folders of scenes for other scenes.
        others: called with each folder that is no scene and the names of its files.
    """
    remote = isinstance(root, RemotePath)
    waiting: list[tuple[Path, int, Callable[[], Listed]]] = [(root, 0, partial(list_folder, root))]
    seen = set() if remote else {os.path.realpath(root)}
    with ThreadPoolExecutor(_LISTING_THREADS) as pool:
        while waiting:
            folder, depth, listing = waiting.pop()
            try:
                files, folders = listing()
            except OSError as error:
                problems.append(f"{folder} cannot be listed: {error.strerror or error}")
                continue
            if is_scene(files):
                yield folder
            elif others is not None:
                others(folder, files)
            if depth >= MAX_DEPTH or not (nested or not is_scene(files)):
                continue
            for name in reversed(folders):
                below = folder / name
                if below.is_symlink():
                    if not follow_links and not within(below, root):
                        problems.append(f"{below} is left out: a link to {os.path.realpath(below)}, outside of {root} "
                                        "(follow_links allows that)")  # fmt: skip
                    if not follow_links or (real := os.path.realpath(below)) in seen:
                        continue
                    seen.add(real)
                # a server is asked for many listings at the same time
                later = pool.submit(list_folder, below).result if remote else partial(list_folder, below)
                waiting.append((below, depth + 1, later))


def list_folder(folder: Path) -> Listed:
    """Names of the files and of the folders in a folder, each in natural order, without hidden ones.

    A link counts as its target; a broken link counts as a file.

    Raises:
        OSError: the folder cannot be listed.
    """
    files: list[str] = []
    folders: list[str] = []
    for name, is_folder in _entries(folder):
        if not name.startswith("."):
            (folders if is_folder else files).append(name)
    return sorted(files, key=natural_order), sorted(folders, key=natural_order)


def _entries(folder: Path) -> Iterator[tuple[str, bool]]:
    if isinstance(folder, RemotePath):
        yield from ((name, entry.folder) for name, entry in folder.listed().items())
        return
    with os.scandir(folder) as entries:
        yield from ((entry.name, _is_folder(entry)) for entry in entries)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


class Listing:
    """Files in the folders of one scene; each folder is listed once, on first use."""

    def __init__(self, scene: Path) -> None:
        self.scene = scene
        self._files: dict[str, frozenset[str]] = {}

    def files(self, folder: str) -> frozenset[str]:
        """Names of the files in a folder, given relative to the scene; empty if the folder does not exist."""
        if folder not in self._files:
            try:
                self._files[folder] = frozenset(list_folder(self.scene / folder)[0])
            except OSError:
                self._files[folder] = frozenset()
        return self._files[folder]

    def __contains__(self, name: str) -> bool:
        path = PurePosixPath(name)
        files = self.files(path.parent.as_posix())
        if not files and isinstance(self.scene, RemotePath) and self.scene.protocol in WEB:
            return (self.scene / name).is_file()  # few web servers list folders
        return path.name in files


def natural_order(name: str) -> tuple[list[tuple[int, str]], str]:
    """Sort key that puts frame_9 before frame_10; numbers may have any number of digits."""
    parts = re.split(r"([0-9]+)", name)
    key = [(-1, part.casefold()) for part in parts]
    for place in range(1, len(parts), 2):
        digits = parts[place].lstrip("0")
        key[place] = (len(digits), digits)
    return key, name


def require_folder(root: Path) -> None:
    """Raise InputError unless ``root`` is a folder that can be listed; the message names what exists instead."""
    try:
        if isinstance(root, RemotePath):
            root.listed()
            return
        if root.is_dir():
            return
        if root.exists():
            raise NotADirectoryError
    except NotADirectoryError as error:
        raise InputError(f"{root} is a file, not a folder") from error
    except FileNotFoundError:
        pass
    except OSError as error:
        raise InputError(f"{root} cannot be listed: {error.strerror or error}") from error
    raise InputError(f"there is no folder {root}; {nearest_folder(root)}")


def nearest_folder(path: Path) -> str:
    """The part of a sentence that names the nearest folder above a path, and the folders in it."""
    for parent in path.absolute().parents:
        try:
            if parent.exists():
                return f"the nearest that exists is {parent}, with {folders_in(parent)}"
        except OSError:
            continue
    return "no folder above it exists or can be listed"


def folders_in(folder: Path) -> str:
    """The part of a sentence that names the first folders in a folder."""
    names = list_folder(folder)[1]
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"the folders {', '.join(names[:_NAMED])}{more}" if names else "no folders"
