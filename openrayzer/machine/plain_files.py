"""Reading of untrusted files and folders: size limits, links, regular files only, JSON, natural order."""

import json
import os
import re
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from openrayzer.interfaces import InputError

MAX_FILE_BYTES = 1 << 28
"""Default size limit in bytes; images and tables of one scene are much smaller."""

MAX_TABLE_BYTES = 1 << 25
"""Size limit of JSON tables in bytes: parsing needs about twenty times as much memory. 32 MB hold 30,000 cameras."""

MAX_DEPTH = 6
"""Number of levels below the root that are searched for scenes."""

_NAMED = 5  # folders that one message lists


class FileError(ValueError):
    """A file that cannot be used; the message gives the reason without the name of the file."""


def read_plain_file(path: Path, *, root: Path | None, limit: int = MAX_FILE_BYTES) -> bytes:
    """Content of a regular file.

    Args:
        path: the file.
        root: folder that the file must lie in after links are followed; None for any place.
        limit: largest allowed size in bytes; a larger file is not read.

    Raises:
        FileError: the file is missing, not a regular file, too large, outside of ``root``, or cannot be read.
    """
    try:
        if root is not None and not within(path, root):
            raise FileError(f"it is a link to {os.path.realpath(path)}, outside of {root} (follow_links allows that)")
        with opened_plain(path) as descriptor, open(descriptor, "rb", closefd=False) as file:
            size = os.fstat(descriptor).st_size
            if size > limit:
                raise FileError(f"it has {size} bytes, more than the {limit} allowed")
            return file.read(size)
    except FileNotFoundError as error:
        raise FileError("there is no such file") from error
    except OSError as error:
        raise FileError(f"it cannot be read: {error.strerror or error}") from error
    except ValueError as error:  # a zero byte in the name
        raise error if isinstance(error, FileError) else FileError(f"it cannot be read: {error}") from error


@contextmanager
def opened_plain(path: Path) -> Iterator[int]:
    """Open a regular file for reading and yield its descriptor.

    Raises:
        FileError: it is not a regular file.
        OSError: it cannot be opened.
    """
    # without O_NONBLOCK, opening a pipe would block
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise FileError("it is not a regular file")
        yield descriptor
    finally:
        os.close(descriptor)


def check_plain_file(path: Path, *, root: Path | None) -> None:
    """Raise FileError unless ``path`` is a regular file and, if ``root`` is given, lies inside it."""
    try:
        if root is not None and not within(path, root):
            raise FileError(f"it is a link to {os.path.realpath(path)}, outside of {root} (follow_links allows that)")
        if not stat.S_ISREG(path.stat().st_mode):
            raise FileError("it is not a regular file")
    except OSError as error:
        raise FileError(f"it cannot be read: {error.strerror or error}") from error


def file_state(path: Path) -> str:
    """Size, time of the last change and inode of a file, a text that changes with the file; empty if it is missing."""
    try:
        status = path.stat()
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
    """Whether a path lies in a folder after all links are followed."""
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
    waiting, seen = [(root, 0)], {os.path.realpath(root)}
    while waiting:
        folder, depth = waiting.pop()
        try:
            files, folders = list_folder(folder)
        except OSError as error:
            problems.append(f"{folder} cannot be listed: {error.strerror or error}")
            continue
        if is_scene(files):
            yield folder
        elif others is not None:
            others(folder, files)
        if depth < MAX_DEPTH and (nested or not is_scene(files)):
            for name in reversed(folders):
                below = folder / name
                if below.is_symlink():
                    if not follow_links and not within(below, root):
                        problems.append(f"{below} is left out: a link to {os.path.realpath(below)}, outside of {root} "
                                        "(follow_links allows that)")  # fmt: skip
                    if not follow_links or (real := os.path.realpath(below)) in seen:
                        continue
                    seen.add(real)
                waiting.append((below, depth + 1))


def list_folder(folder: Path) -> tuple[list[str], list[str]]:
    """Names of the files and of the folders in a folder, each in natural order, without hidden ones.

    A link counts as its target; a broken link counts as a file.

    Raises:
        OSError: the folder cannot be listed.
    """
    files: list[str] = []
    folders: list[str] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if not entry.name.startswith("."):
                (folders if _is_folder(entry) else files).append(entry.name)
    return sorted(files, key=natural_order), sorted(folders, key=natural_order)


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
        return path.name in self.files(path.parent.as_posix())


def natural_order(name: str) -> tuple[list[tuple[int, str]], str]:
    """Sort key that puts frame_9 before frame_10; numbers may have any number of digits."""
    parts = re.split(r"([0-9]+)", name)
    key = [(-1, part.casefold()) for part in parts]
    for place in range(1, len(parts), 2):
        digits = parts[place].lstrip("0")
        key[place] = (len(digits), digits)
    return key, name


def require_folder(root: Path) -> None:
    """Raise InputError unless ``root`` is a folder; the message names what exists instead."""
    if root.is_dir():
        return
    if root.exists():
        raise InputError(f"{root} is a file, not a folder")
    near = next(parent for parent in root.absolute().parents if parent.exists())
    raise InputError(f"there is no folder {root}; the nearest that exists is {near}, with {_folders(near)}")


def _folders(folder: Path) -> str:
    names = list_folder(folder)[1]
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"the folders {', '.join(names[:_NAMED])}{more}" if names else "no folders"
