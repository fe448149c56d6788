"""Paths of remote files and folders, used like paths of the local disk."""

import errno
import os
import re
import stat
import threading
from collections import OrderedDict
from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path, PosixPath
from typing import Any, NamedTuple
from urllib.parse import quote, unquote

import fsspec

from openrayzer.interfaces import InputError
from openrayzer.machine.remote_requests import WEB, asked

_ADDRESS = re.compile(r"\A([a-z][a-z0-9_+.-]+):/+(?=[^/])", re.IGNORECASE)
"""Protocol of an address; ``Path`` turns the two slashes into one."""

_EMPTY = re.compile(r"\A[a-z][a-z0-9_+.-]+:/*\Z", re.IGNORECASE)
"""A protocol and nothing else."""

_STATES = ("ETag", "etag", "md5Hash", "blob_id", "LastModified", "Last-Modified", "updated", "mtime", "created")
"""Keys by which clients state that a file has changed."""

_NOT_ASKED = -2  # size of a file in a listing without sizes, as web servers make them
_THREADS = 16
_REMEMBERED = 100_000
"""Largest number of files in the listings that a process remembers; about 200 bytes each."""


class Entry(NamedTuple):
    """A file or folder of a listing.

    Attributes:
        folder: whether it is a folder.
        size: bytes of a file; -1 if unknown.
        state: text that changes with the content of the file, such as its ETag; empty if the server states none.
    """

    folder: bool
    size: int
    state: str


class RemotePath(PosixPath):
    """A path such as ``s3://bucket/re10k/train``; made by ``located``.

    Names, parents and joins are those of ``pathlib``. ``stat``, ``is_file``, ``is_dir``, ``exists`` and ``iterdir`` ask
    the server. Other functions of the operating system raise an OSError.
    """

    __slots__ = ()

    def __str__(self) -> str:
        return _ADDRESS.sub(r"\1://", super().__str__(), count=1)

    def __fspath__(self) -> str:
        raise OSError(errno.EOPNOTSUPP, "it is not on the local disk", str(self))

    def __repr__(self) -> str:
        return f"RemotePath({str(self)!r})"

    @property
    def protocol(self) -> str:
        """The protocol, such as ``s3``."""
        return self.parts[0].removesuffix(":")

    @property
    def address(self) -> str:
        """The address for fsspec."""
        text = str(self)
        if self.protocol not in WEB:
            return text
        protocol, _, rest = text.partition("://")
        return f"{protocol}://{quote(rest, safe='/:@[]')}"

    def entry(self) -> Entry:
        """Kind, size and state of the file or folder, from the last listing of its folder or from the server.

        Raises:
            OSError: it does not exist, or the server cannot be asked.
        """
        known = _LISTINGS.known(self)
        if _LISTINGS.lacks(self) or not _ADDRESS.match(str(self)):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self))
        if known is None or known.size == _NOT_ASKED:
            known = _entry(asked(self.address, lambda system: system.info(self.address)))
            _LISTINGS.keep(self.parent, {self.name: known}, whole=False)
        return known

    @property
    def stated_size(self) -> int:
        """Bytes of the file by the last listing of its folder, without a request; -1 if it is unknown."""
        known = _LISTINGS.known(self)
        return -1 if known is None else max(known.size, -1)

    def listed(self) -> Mapping[str, Entry]:
        """The files and folders in a folder, by name.

        Raises:
            OSError: it is no folder, or cannot be listed.
        """
        infos = asked(self.address, lambda system: system.ls(self.address, detail=True))
        names = [info["name"].rstrip("/") for info in infos]
        if self.protocol in WEB:  # the links of a page, some of which lead elsewhere
            inside = f"{self.address}/"
            names = [unquote(name.removeprefix(inside)) if name.startswith(inside) else "" for name in names]
            names = ["" if {"?", "#"} & set(info["name"]) else name for name, info in zip(names, infos, strict=True)]
        own = str(self).partition("://")[2].strip("/")
        if [name.strip("/") for name in names] == [own] and infos[0]["type"] != "directory":
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(self))
        entries = zip(names, (_entry(info, unknown=_NOT_ASKED) for info in infos), strict=True)
        found = {name.rpartition("/")[2]: entry for name, entry in entries if name and name.strip("/") != own}
        _LISTINGS.keep(self, found, whole=self.protocol not in WEB)
        return found

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        entry = self.entry()
        mode = (stat.S_IFDIR if entry.folder else stat.S_IFREG) | 0o444
        return os.stat_result((mode, 0, 0, 1, 0, 0, max(entry.size, 0), 0, 0, 0), {"st_mtime_ns": 0})

    def iterdir(self) -> Generator[Any, None, None]:
        return (self / name for name in self.listed())

    def is_symlink(self) -> bool:
        return False

    def absolute(self) -> Any:
        return self

    def resolve(self, strict: bool = False) -> Any:
        return self

    def exists(self) -> bool:
        return len(self.parts) > 1 and super().exists()


class _Listings:
    """Listings of folders that this process has asked for; the least recently used ones are forgotten."""

    def __init__(self) -> None:
        self._folders: OrderedDict[str, dict[str, Entry]] = OrderedDict()
        self._whole: set[str] = set()  # folders whose listing is complete
        self._files = 0
        self._lock = threading.Lock()

    def renew_lock(self) -> None:
        """Another thread may have held the lock when this process was forked."""
        self._lock = threading.Lock()

    def lacks(self, path: RemotePath) -> bool:
        """Whether a listing of a folder above the path shows that there is no such file or folder."""
        return any(
            str(parent) in self._whole and child.name not in self._folders[str(parent)]
            for child, parent in zip((path, *path.parents), path.parents, strict=False)
        )

    def known(self, path: RemotePath) -> Entry | None:
        return self._folders.get(str(path.parent), {}).get(path.name)

    def keep(self, folder: Path, entries: Mapping[str, Entry], *, whole: bool) -> None:
        key = str(folder)
        with self._lock:
            old = self._folders.pop(key, {})
            self._folders[key] = new = dict(entries) if whole else {**old, **entries}
            self._files += len(new) - len(old)
            if whole:
                self._whole.add(key)
            while self._files > _REMEMBERED and len(self._folders) > 1:
                self._drop(next(iter(self._folders)))

    def forget(self, root: Path) -> None:
        inside = f"{root}/"
        with self._lock:
            for folder in [folder for folder in self._folders if f"{folder}/".startswith(inside)]:
                self._drop(folder)

    def _drop(self, folder: str) -> None:
        self._files -= len(self._folders.pop(folder))
        self._whole.discard(folder)


_LISTINGS = _Listings()
os.register_at_fork(after_in_child=_LISTINGS.renew_lock)


def forget_listings(root: Path) -> None:
    """Forget all listings of folders in ``root``, so that the server is asked again; a local path has none.

    Raises:
        InputError: the client of the protocol does not start.
    """
    if isinstance(root, RemotePath):
        _LISTINGS.forget(root)
        with suppress(OSError):  # the next request would raise it again
            asked(root.address, lambda system: system.invalidate_cache())  # clients remember listings, too


def list_if_remote(folder: Path) -> None:
    """List a remote folder, if it can be listed, so that questions about its files need no requests."""
    if isinstance(folder, RemotePath):
        with suppress(OSError):
            folder.listed()


def entries_of(paths: Sequence[RemotePath]) -> list[Entry]:
    """Kind, size and state of each file; files without a known listing are asked for at the same time.

    Raises:
        OSError: a file does not exist, or the server cannot be asked.
    """
    known = [_LISTINGS.known(path) for path in paths]
    if len(paths) < 2 or all(entry is not None and entry.size != _NOT_ASKED for entry in known):
        return [path.entry() for path in paths]
    with ThreadPoolExecutor(min(_THREADS, len(paths))) as pool:
        return list(pool.map(RemotePath.entry, paths))


def located(place: Path | str) -> Path:
    """The path of a file or folder: a ``RemotePath`` for an address such as ``s3://bucket/re10k``.

    Raises:
        InputError: the protocol is unknown, the address names no place or several, or it holds a password or a
            signature, which would be written into run folders and logs.
    """
    if isinstance(place, RemotePath):
        return place
    text = str(place)
    found = _ADDRESS.match(text)
    if not found:
        if _EMPTY.match(text):
            raise InputError(f"{text} names no place; an address is like s3://bucket/re10k or https://host/re10k")
        return Path(place)
    protocol, rest = found.group(1).lower(), text[found.end() :]
    if protocol in ("file", "local"):
        return Path("/" + rest)
    if protocol not in fsspec.available_protocols():
        raise InputError(
            f"{protocol}:// is not a protocol that fsspec knows; known are s3, gs, hf, https, memory and others"
        )
    host, query = rest.partition("/")[0], protocol in WEB and ("?" in rest or "#" in rest)
    if query or ("@" in host and (protocol in WEB or ":" in host.partition("@")[0])):
        raise InputError(
            f"an address of {protocol}:// must not hold a user, a password or a query, because run folders and logs "
            "keep it; the client takes credentials from its own environment, such as ~/.netrc for https"
        )
    if "::" in rest:
        raise InputError(f"{text} chains two addresses; give the address of a folder")
    return RemotePath(f"{protocol}:/{unquote(rest) if protocol in WEB else rest}")


def _entry(info: Mapping[str, Any], *, unknown: int = -1) -> Entry:
    # a web server answers for a folder with a page
    folder = info["type"] == "directory" or (info.get("mimetype") == "text/html" and "." not in _last(info["name"]))
    size = info.get("size")
    stated = [f"{info[key]}" for key in _STATES if info.get(key) is not None]
    return Entry(
        folder,
        unknown if size is None and not folder else int(size or 0),
        " ".join([str(size), *stated]) if stated else "",
    )


def _last(name: str) -> str:
    return name.rstrip("/").rpartition("/")[2]
