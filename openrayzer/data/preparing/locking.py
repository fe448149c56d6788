"""One writer at a time for an output folder."""

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
PATIENCE = 3.0
"""Seconds to wait for processes of a killed run to end; they look for their parent five times a second."""

STALE_AFTER = 3600.0
"""Seconds without a sign of life after which a lock of another machine no longer holds; a chunk may take minutes."""


@contextmanager
def locked(folder: Path) -> Iterator["Lock"]:
    """Hold a folder's lock, a file in it.

    The system frees the lock when the process that holds it, and those it started, are gone, however they ended. Where
    another machine wrote it, on a file system whose locks do not reach across machines, it holds as long as that
    machine has touched the file in the last ``STALE_AFTER`` seconds.

    Raises:
        InputError: somebody else holds it, the file is no lock, or the folder cannot be written to.
    """
    path = folder / LOCK_NAME
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # a link would have another file emptied, and a pipe would block without O_NONBLOCK
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
    """A lock that is held; ``touch`` it now and then."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def touch(self) -> None:
        """Give a sign of life."""
        os.utime(self._descriptor)

    def write(self, text: str) -> None:
        """Say who holds it; nobody, once it is empty."""
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, text.encode(), 0)


def _acquire(descriptor: int, path: Path) -> None:
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        raise InputError(f"{path} is not a regular file, so not a lock; give another folder")
    until = time.monotonic() + PATIENCE
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
    if text and socket.gethostname() not in _holder(descriptor) and age < STALE_AFTER:
        raise InputError(
            f"{path.parent} is being written by {_holder(descriptor)}, which touched {path} {age:.0f} s ago; after "
            f"{STALE_AFTER:.0f} s without that, the lock no longer holds"
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
