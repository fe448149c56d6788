"""Files and folders that are written completely or not at all, and early checks that an output can be written."""

import logging
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from openrayzer.interfaces import InputError

LOG = logging.getLogger(__name__)


@contextmanager
def whole_file(path: Path, *, flush: bool = True) -> Iterator[Path]:
    """Yield a temporary name beside ``path`` to write to; the file is renamed to ``path`` when the block ends.

    After an error or an interruption the temporary file is gone and ``path`` is as it was.

    Args:
        path: the file; its folder is created.
        flush: flush the file to the disk (fsync) before it is renamed, so that ``path`` is never empty or cut off after
            a power failure. False is faster and suits files that can be made again, such as pictures and caches.

    Raises:
        OSError: the file cannot be written, e.g. because the disk is full.
    """
    temporary = temporary_name(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        if flush:
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def whole_folder(output: Path, *, option: str = "--output", replace: bool = False) -> Iterator[Path]:
    """Yield a temporary folder beside ``output`` to write to; it is renamed to ``output`` when the block ends.

    After an error or an interruption the temporary folder is gone and ``output`` is as it was. Files are not flushed.

    Args:
        output: the folder, or a link to one.
        option: the command line option that gave ``output``, for messages.
        replace: replace a folder that holds files. If False, ``output`` must not exist or be empty.

    Raises:
        InputError: the folder cannot be written.
    """
    final = real_path(output, option=option)
    temporary, old = _beside(final, "unfinished"), _beside(final, "replaced")
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        yield temporary
        if replace and final.exists():
            final.rename(old)
        temporary.rename(final)
    except OSError as error:
        raise unwritable_output(output, error, option=option) from error
    finally:
        if old.exists() and not final.exists():  # an interruption between the two renames
            old.rename(final)
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def write_or_warn(path: Path, write: Callable[[Path], object]) -> bool:
    """Write a file of a training that can go on without it, such as a picture; log a warning if that fails.

    Args:
        path: the file; a file that is already there stays if the new one cannot be written.
        write: writes the content to the path that it is given.

    Returns:
        True if the file was written.
    """
    try:
        with whole_file(path, flush=False) as temporary:
            write(temporary)
    except OSError as error:
        LOG.warning("%s: cannot be written (%s); training goes on without it", path, error.strerror or error)
        return False
    return True


def check_writable(path: Path) -> None:
    """Check that a file can be written at ``path``, and create its folder. A file that exists there is not touched.

    Raises:
        InputError: it cannot be written, or is a folder.
    """
    try:
        if path.is_dir():
            raise IsADirectoryError("it is a folder")
        above = next(folder for folder in path.absolute().parents if folder.exists())
        if not above.is_dir():
            raise NotADirectoryError(f"{above} is not a folder")
        path.parent.mkdir(parents=True, exist_ok=True)
        probe = temporary_name(path)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise unwritable(path, error) from error


def check_folder_writable(output: Path, *, option: str = "--output") -> None:
    """Check that ``whole_folder`` can write beside ``output``.

    Raises:
        InputError: it cannot.
    """
    probe = _beside(real_path(output, option=option), "unfinished")
    try:
        probe.mkdir(parents=True, exist_ok=True)
        probe.rmdir()
    except OSError as error:
        raise unwritable_output(output, error, option=option) from error


def refuse_filled(output: Path, *, option: str = "--output") -> None:
    """Check that the folder ``output`` does not exist or is empty.

    Raises:
        InputError: it holds files, or is a file.
    """
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise InputError(f"{option} {output} exists and is not empty; choose another folder")


def unwritable(path: Path, error: OSError) -> InputError:
    """The error for a file that cannot be written, with the reason of the operating system."""
    return InputError(f"{path} cannot be written: {error.strerror or error}")


def unwritable_output(output: Path, error: Exception, *, option: str = "--output") -> InputError:
    """The error for an output folder that cannot be written, with the reason of the operating system."""
    return InputError(f"{option} {output}: cannot be written: {getattr(error, 'strerror', None) or error}")


def real_path(output: Path, *, option: str = "--output") -> Path:
    """``output`` as an absolute path without links, ``.`` and ``..``.

    Raises:
        InputError: its links form a loop.
    """
    try:
        return output.resolve()
    except (OSError, RuntimeError) as error:
        raise unwritable_output(output, error, option=option) from error


def temporary_name(path: Path) -> Path:
    """Name of an unfinished file beside ``path``, ``.NAME.NUMBER.tmp``; no other process uses it, on any machine."""
    return path.with_name(f".{path.name}.{os.getpid()}{secrets.randbelow(10**9):09}.tmp")


def _beside(output: Path, word: str) -> Path:
    return output.with_name(f".{word}_{output.name}_{os.getpid()}")
