"""Local copies of remote files that are read often, such as a side index; shared by all processes of a machine."""

import fcntl
import hashlib
import json
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from openrayzer.interfaces import InputError
from openrayzer.machine.remote_paths import RemotePath
from openrayzer.machine.remote_requests import FilePart, fetched
from openrayzer.machine.writing import whole_file

LOG = logging.getLogger(__name__)
FOLDER_VARIABLE = "OPENRAYZER_CACHE"
"""Environment variable with the folder of the copies; without it, ``~/.cache/openrayzer``."""

UNUSED_DAYS = 30
"""Days without use after which a copy is deleted."""

_REQUEST = 1 << 23  # bytes
_AT_ONCE = 8  # requests


def copies_folder() -> Path:
    """The folder of the copies."""
    general = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.environ.get(FOLDER_VARIABLE) or Path(general) / "openrayzer").expanduser()


def local_copy(path: Path) -> Path:
    """A complete copy of a remote file on the local disk, fetched once; a local path is returned as it is.

    A file that has changed is fetched again. Its copy appears under its name when it is complete.

    Raises:
        OSError: the remote file cannot be read.
        InputError: the copy cannot be written, e.g. because the disk is full.
    """
    if not isinstance(path, RemotePath):
        return path
    entry, target = path.entry(), _target(path)
    try:
        with _locked(path):
            if not (entry.state and target.exists() and target.stat().st_size == entry.size):
                with whole_file(target) as temporary, temporary.open("wb") as file:
                    for data in _contents(path, entry.size):
                        file.write(data)
            os.utime(target)
            _delete_unused(path)
    except _RemoteError as error:
        raise error.reason from None
    except OSError as error:
        raise _unwritable(path, error) from error
    return target


def remembered(path: Path, make: Callable[[], Any]) -> Any:
    """The result of ``make``, a JSON value that depends on one file alone; for a remote file it is made once.

    If it cannot be stored, a warning says so.
    """
    if not isinstance(path, RemotePath) or not path.entry().state:
        return make()
    target = _target(path).with_suffix(".json")
    try:
        return json.loads(target.read_bytes())
    except (OSError, ValueError):
        found = make()
    try:
        with whole_file(target, flush=False) as temporary:
            temporary.write_text(json.dumps(found))
        _delete_unused(path)
    except OSError as error:
        LOG.warning("%s", _unwritable(path, error))
    return found


class _RemoteError(Exception):
    """Separates a failure of the server from one of the local disk."""

    def __init__(self, reason: OSError) -> None:
        super().__init__(reason)
        self.reason = reason


def _contents(path: RemotePath, size: int) -> Iterator[bytes]:
    if size < 0:
        parts = [FilePart(path.address, 0, None)]
    else:
        parts = [FilePart(path.address, start, min(_REQUEST, size - start)) for start in range(0, size, _REQUEST)]
    for first in range(0, len(parts), _AT_ONCE):
        for data in fetched(parts[first : first + _AT_ONCE]):
            if isinstance(data, OSError):
                raise _RemoteError(data)
            yield data


def _target(path: RemotePath) -> Path:
    return copies_folder() / f"{_digest(str(path))}-{_digest(path.entry().state)}-{path.name}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:24]


@contextmanager
def _locked(path: RemotePath) -> Iterator[None]:
    """Wait until no other process of the machine fetches the file."""
    lock = copies_folder() / f"{_digest(str(path))}.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _delete_unused(path: RemotePath) -> None:
    """Delete old copies of a file; a run that still reads an older one keeps it for ``UNUSED_DAYS``."""
    for copy in copies_folder().glob(f"{_digest(str(path))}-*"):
        if time.time() - copy.stat().st_mtime > UNUSED_DAYS * 86400:
            copy.unlink()


def _unwritable(path: RemotePath, error: OSError) -> InputError:
    return InputError(
        f"a copy of {path} cannot be written to {copies_folder()}: {error.strerror or error}; make space there, or set "
        f"{FOLDER_VARIABLE} to another folder"
    )
