"""Lock of an output folder: one writer at a time, or one writer of each part."""

import errno
import fcntl
import json
import os
import re
import socket
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from openrayzer.data.preparing.parts.division import PART_NAME, Part
from openrayzer.interfaces import InputError

LOCK_NAME = ".lock"
PART_LOCK = re.compile(rf"\.{PART_NAME}\.lock")
"""Names of the locks of parts."""
WAITING_SECONDS = 3.0
"""Seconds to wait for the processes of a killed run; they check five times per second whether their parent lives."""

STALE_SECONDS = 3600.0
"""Age in seconds from which the lock of another machine is ignored; writing a chunk, which renews the lock, may take
minutes."""


@contextmanager
def locked(folder: Path, part: Part | None = None) -> Iterator["Lock"]:
    """Hold the lock of a folder, a file in it.

    The lock of a part excludes the same part and the whole folder; the lock of the whole folder excludes all others.
    The system frees a lock when the process that holds it and its child processes have ended. On a file system
    without locks across machines, the lock that another machine holds on the whole folder counts if its file changed
    in the last ``STALE_SECONDS`` seconds, and the lock of a part does not count.

    Args:
        folder: the folder; it is created.
        part: the part to write; None for the whole folder.

    Raises:
        InputError: another process holds a lock, the file is not a lock, or the folder cannot be written to.
    """
    path = folder / (f".{part.name}.lock" if part else LOCK_NAME)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = _opened(path)
    except OSError as error:
        raise InputError(f"{folder} cannot be written to: {error.strerror or error}") from error
    try:
        _acquire(descriptor, path)
        lock = Lock(descriptor)
        lock.write(json.dumps({"host": socket.gethostname(), "process": os.getpid()}))
        try:
            for other in [folder / LOCK_NAME] if part else part_locks(folder):
                _require_free(other)
            yield lock
        finally:
            lock.write("")
    finally:
        os.close(descriptor)


def part_locks(folder: Path) -> list[Path]:
    """The lock files of parts in a folder."""
    return [path for path in sorted(folder.iterdir()) if PART_LOCK.fullmatch(path.name)]


def _require_free(path: Path) -> None:
    """Check that no process holds a lock, if the file exists."""
    try:
        descriptor = _opened(path, os.O_RDWR)
    except FileNotFoundError:
        return
    try:
        _acquire(descriptor, path, kind=fcntl.LOCK_SH)
    finally:
        os.close(descriptor)


def _opened(path: Path, how: int = os.O_RDWR | os.O_CREAT) -> int:
    try:
        # O_NOFOLLOW: a link would empty another file. O_NONBLOCK: a pipe would block.
        return os.open(path, how | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o644)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise InputError(f"{path} is a link, not a lock; give another folder") from error
        raise


class Lock:
    """A lock that is held; call ``touch`` from time to time."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def touch(self) -> None:
        """Renew the lock."""
        os.utime(self._descriptor)

    def write(self, text: str) -> None:
        """Write the holder into the file; an empty file has no holder."""
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, text.encode(), 0)


def _acquire(descriptor: int, path: Path, *, kind: int = fcntl.LOCK_EX) -> None:
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        raise InputError(f"{path} is not a regular file, so not a lock; give another folder")
    until = time.monotonic() + WAITING_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
            break
        except BlockingIOError as error:
            if time.monotonic() > until:
                raise InputError(f"{_locked_by(path)} is being written by {_holder(descriptor)}") from error
            time.sleep(0.1)
    text = os.pread(descriptor, 1000, 0)
    if text and not _is_lock(text):
        raise InputError(f"{path} is not the lock of a conversion; give another folder")
    age = time.time() - os.fstat(descriptor).st_mtime
    if PART_LOCK.fullmatch(path.name):
        return  # a part that is written twice at the same time gets the same files
    if text and socket.gethostname() not in _holder(descriptor) and age < STALE_SECONDS:
        raise InputError(
            f"{path.parent} is being written by {_holder(descriptor)}, which renewed {path} {age:.0f} s ago; the "
            f"lock expires after {STALE_SECONDS:.0f} s"
        )


def _locked_by(path: Path) -> str:
    """The folder or the part of it that a lock stands for."""
    found = PART_LOCK.fullmatch(path.name)
    return f"part {found[1]}/{found[2]} of {path.parent}" if found else str(path.parent)


def _is_lock(text: bytes) -> bool:
    try:
        said = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return isinstance(said, dict) and set(said) == {"host", "process"}


def _holder(descriptor: int) -> str:
    try:
        said = json.loads(os.pread(descriptor, 1000, 0))
        return f"process {said['process']} on {said['host']}"
    except (ValueError, TypeError, KeyError):
        return "another process"
