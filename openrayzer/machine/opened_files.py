"""Open files of the local disk and of remote file systems, read by position."""

import errno
import io
import os
import stat
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from fsspec.utils import merge_offset_ranges

from openrayzer.machine.remote_paths import RemotePath
from openrayzer.machine.remote_requests import FilePart, fetched

Range = tuple[int, int]
"""First byte and number of bytes."""

_GAP = 1 << 17
"""Largest number of unwanted bytes between two ranges that one request fetches."""

_REQUEST = 1 << 23
"""Largest number of bytes of one request."""

_AHEAD = 1 << 16
"""Smallest number of bytes that a read fetches from a remote file if nothing was prefetched."""

_HELD = 8  # blocks that such reads keep


class FileError(ValueError):
    """A file that cannot be used; the message gives the reason without the name of the file."""


class OpenFile(ABC):
    """A file that is open for reading."""

    @property
    @abstractmethod
    def size(self) -> int:
        """Number of bytes."""

    @abstractmethod
    def read(self, start: int, size: int) -> bytes:
        """``size`` bytes from byte ``start``; fewer only at the end of the file.

        Raises:
            OSError: it cannot be read.
        """

    def prefetch(self, ranges: Iterable[Range]) -> None:
        """Fetch ranges of a remote file, all at the same time, for reads that follow; nothing for a local file.

        Ranges near each other are joined. The ranges of an earlier call are forgotten.

        Raises:
            OSError: they cannot be read.
        """

    def stream(self, start: int = 0, end: int | None = None) -> io.BufferedReader:
        """The bytes from ``start`` to before ``end``, or to the end of the file, as a file for other libraries."""
        return io.BufferedReader(_Stream(self, start, self.size if end is None else end), buffer_size=1 << 15)


@contextmanager
def opened(path: Path, *, size: int | None = None) -> Iterator[OpenFile]:
    """Open a regular file for reading.

    Args:
        path: the file.
        size: its number of bytes if known, so that a server need not be asked.

    Raises:
        FileError: it is not a regular file.
        OSError: it cannot be opened.
    """
    if isinstance(path, RemotePath):
        yield RemoteFile(path, size)
        return
    # without O_NONBLOCK, opening a pipe would block
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise FileError("it is not a regular file")
        yield LocalFile(descriptor)
    finally:
        os.close(descriptor)


class LocalFile(OpenFile):
    """An open file of the local disk.

    Args:
        descriptor: its descriptor.
    """

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    @property
    def size(self) -> int:
        return os.fstat(self.descriptor).st_size

    def read(self, start: int, size: int) -> bytes:
        return os.pread(self.descriptor, size, start)


class RemoteFile(OpenFile):
    """A file of a remote file system. Opening it asks for nothing.

    Args:
        path: the file.
        size: its number of bytes; None asks the server when the number is needed.
    """

    def __init__(self, path: RemotePath, size: int | None = None) -> None:
        self.path, self._size = path, size
        self._blocks: list[tuple[int, bytes]] = []

    @property
    def size(self) -> int:
        if self._size is None:
            entry = self.path.entry()
            if entry.folder:
                raise FileError("it is not a regular file")
            if entry.size < 0:
                raise OSError(errno.EPROTO, "its server does not state its size", str(self.path))
            self._size = entry.size
        return self._size

    def read(self, start: int, size: int) -> bytes:
        end = start + size
        held = self._held(start, end)
        if held is None:
            end = min(end, self.size)
            held = self._held(start, end)
        if held is None:
            wanted = max(end, min(start + _AHEAD, self.size))
            self._blocks = [*self._blocks[1 - _HELD :], *self._fetched([(start, wanted - start)])]
            held = self._held(start, end)
        return b"" if held is None else held

    def prefetch(self, ranges: Iterable[Range]) -> None:
        ends = [(start, min(start + size, self.size)) for start, size in ranges]
        if any(self._held(start, end) is None for start, end in ends):
            self._blocks = self._fetched([(start, end - start) for start, end in ends if end > start])

    def _held(self, start: int, end: int) -> bytes | None:
        for first, block in self._blocks:
            if first <= start and end <= first + len(block):
                return block[start - first : end - first]
        return None if end > start else b""

    def _fetched(self, ranges: list[Range]) -> list[tuple[int, bytes]]:
        """Blocks of neighbouring bytes that cover the ranges."""
        address = self.path.address
        starts, ends = [start for start, _ in ranges], [start + size for start, size in ranges]
        _, starts, joined = merge_offset_ranges([address] * len(ranges), starts, ends, max_gap=_GAP, max_block=_REQUEST)
        parts = [
            FilePart(address, first, min(_REQUEST, end - first))
            for start, end in zip(starts, joined, strict=True)
            for first in range(start, end, _REQUEST)  # type: ignore[arg-type]
        ]
        blocks: list[tuple[int, bytes]] = []
        for part, data in zip(parts, fetched(parts), strict=True):
            if isinstance(data, OSError):
                raise data
            if blocks and sum((blocks[-1][0], len(blocks[-1][1]))) == part.start:
                blocks[-1] = (blocks[-1][0], blocks[-1][1] + data)
            else:
                blocks.append((part.start, data))
        return blocks


class _Stream(io.RawIOBase):
    """Part of an open file as a file of its own."""

    def __init__(self, file: OpenFile, start: int, end: int) -> None:
        self.file, self.start, self.end, self.place = file, start, end, start

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: self.start, os.SEEK_CUR: self.place, os.SEEK_END: self.end}[whence]
        if base + offset < self.start:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        self.place = base + offset
        return self.place - self.start

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        data = self.file.read(self.place, min(len(buffer), max(self.end - self.place, 0)))
        buffer[: len(data)] = data
        self.place += len(data)
        return len(data)
