"""Whether what a user wants written can be, asked before anything is computed."""

import os
from pathlib import Path

from openrayzer.interfaces import InputError


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
