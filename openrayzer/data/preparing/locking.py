"""Lock of an output folder: one writer at a time."""

import errno
import fcntl
import json
import os
import socket
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from openrayzer.interfaces import InputError

LOCK_NAME = ".lock"
WAITING_SECONDS = 3.0
"""Seconds to wait for the processes of a killed run; they check five times per second whether their parent lives."""

STALE_SECONDS = 3600.0
"""Age in seconds from which the lock of another machine is ignored; writing a chunk, which renews the lock, may take
minutes."""


@contextmanager
def locked(folder: Path) -> Iterator["Lock"]:
    """Hold the lock of a folder, a file in it.

    The system frees the lock when the process that holds it and its child processes have ended. On a file system
    without locks across machines, the lock of another machine counts if its file changed in the last ``STALE_SECONDS``
    seconds.

    Raises:
        InputError: another process holds the lock, the file is not a lock, or the folder cannot be written to.
    """
    path = folder / LOCK_NAME
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # O_NOFOLLOW: a link would empty another file. O_NONBLOCK: a pipe would block.
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        descriptor = os.open(path, flags, 0o644)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise InputError(f"{path} is a link, not a lock; give another folder") from error
        raise InputError(f"{folder} cannot be written to: {error.strerror or error}") from error
    try:
        _acquire(descriptor, path)
        lock = Lock(descriptor)
        lock.write(json.dumps({"host": socket.gethostname(), "process": os.getpid()}))
        try:
            yield lock
        finally:
            lock.write("")
    finally:
        os.close(descriptor)


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


def _acquire(descriptor: int, path: Path) -> None:
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        raise InputError(f"{path} is not a regular file, so not a lock; give another folder")
    until = time.monotonic() + WAITING_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError as error:
            if time.monotonic() > until:
                raise InputError(f"{path.parent} is being written by {_holder(descriptor)}") from error
            time.sleep(0.1)
    text = os.pread(descriptor, 1000, 0)
    if text and not _is_lock(text):
        raise InputError(f"{path} is not the lock of a conversion; give another folder")
    age = time.time() - os.fstat(descriptor).st_mtime
    if text and socket.gethostname() not in _holder(descriptor) and age < STALE_SECONDS:
        raise InputError(
            f"{path.parent} is being written by {_holder(descriptor)}, which renewed {path} {age:.0f} s ago; the "
            f"lock expires after {STALE_SECONDS:.0f} s"
        )


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
