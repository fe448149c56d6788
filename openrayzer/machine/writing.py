"""Whether what a user wants written can be, asked before anything is computed."""

import logging
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from openrayzer.interfaces import InputError

LOG = logging.getLogger(__name__)


def check_writable(path: Path) -> None:
    """Raise InputError unless a file can be made at ``path``; its folder is made, and one that is there may stay."""
    try:
        if path.is_dir():
            raise IsADirectoryError("it is a folder")
        above = next(folder for folder in path.absolute().parents if folder.exists())
        if not above.is_dir():
            raise NotADirectoryError(f"{above} is no folder")
        path.parent.mkdir(parents=True, exist_ok=True)
        probe = unfinished(path)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise unwritable(path, error) from error


def unfinished(path: Path) -> Path:
    """What a file is called until it is whole; no other process uses the name."""
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


def unwritable(path: Path, error: OSError) -> InputError:
    """The error that says that a file cannot be written, and why."""
    return InputError(f"{path} cannot be written: {error.strerror or error}")


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Have ``write`` make a file beside ``path``, then give it its name; it exists completely or not at all, even if
    the power goes.

    Raises:
        OSError: the disk is full or cannot be written to.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write(temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_whole(path: Path, write: Callable[[Path], object]) -> bool:
    """Whether ``write`` could make the file at ``path``, all of it; if not, that is a warning.

    Args:
        path: where the file is wanted; what was there stays if the new one cannot be written, e.g. on a full disk.
        write: gets another name in the same folder.
    """
    unfinished = path.with_name(f"unfinished_{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(unfinished)
        unfinished.replace(path)
    except OSError as error:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)
        LOG.warning("%s: cannot be written (%s); training goes on without it", path, error.strerror or error)
        return False
    return True


def refuse_filled(output: Path, *, option: str = "--output") -> None:
    """Does nothing if ``output``, which the user gave as ``option``, can become a folder of its own.

    Raises:
        InputError: it is there and is no empty folder.
    """
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise InputError(f"{option} {output} exists and is not empty; choose another folder")


@contextmanager
def whole_folder(output: Path, *, option: str = "--output") -> Iterator[Path]:
    """A folder to write to, which becomes ``output`` at the end: with everything in it, or not at all.

    Raises:
        InputError: it cannot be written; nothing is left then.
    """
    unfinished = output.with_name(f"unfinished_{output.name}")
    try:
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        yield unfinished
        unfinished.rename(output)
    except OSError as error:
        raise InputError(f"{option} {output}: cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


@contextmanager
def replaced_folder(output: Path) -> Iterator[Path]:
    """A folder to write to, which takes the place of ``output`` at the end, or is removed after a failure.

    Raises:
        InputError: it cannot be written, e.g. because the disk is full.
    """
    output = _resolved(output)
    unfinished, old = _beside(output, "unfinished"), _beside(output, "replaced")
    try:
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        yield unfinished
        if output.exists():
            output.rename(old)
        unfinished.rename(output)
    except OSError as error:
        raise InputError(f"--output {output}: cannot be written: {error.strerror or error}") from error
    finally:
        if old.exists() and not output.exists():  # also after Ctrl-C between the two steps
            old.rename(output)
        shutil.rmtree(unfinished, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def _resolved(output: Path) -> Path:
    """The folder itself where ``output`` is a link, or no name but ``.`` or ``..``."""
    try:
        return output.resolve()
    except (OSError, RuntimeError) as error:
        raise InputError(f"--output {output}: cannot be written: {error}") from error


def _beside(output: Path, word: str) -> Path:
    return output.with_name(f".{word}_{output.name}_{os.getpid()}")
