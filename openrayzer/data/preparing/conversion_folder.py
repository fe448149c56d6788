"""Files of a conversion in its output folder; other files are never touched."""

import os
import re
from collections.abc import Container
from pathlib import Path
from typing import Any

from openrayzer.data.chunk_files.format import INDEX_NAME
from openrayzer.data.chunk_files.side_index import FRAME_INDEX_NAME
from openrayzer.data.preparing.parts.locking import LOCK_NAME, PART_LOCK, part_locks
from openrayzer.interfaces import InputError
from openrayzer.machine.plain_files import MAX_FILE_BYTES, FileError, read_json_object

MANIFEST_NAME = "manifest.json"
WORK = ".convert"
PLAN = "plan.json"

_TEMPORARY = re.compile(
    r"\.((?P<chunk>\d{6,})\.(torch|json)|(index|plan|manifest)\.json|\.plan\.json\.\d+\.tmp|frame_index\.bin)\.\d+\.tmp"
)
_WORKED = re.compile(r"\d{6,}\.json|plan\.json")


def require_ours(output: Path) -> None:
    """Raise InputError unless a folder is missing, empty, or the output of a conversion; it is not changed."""
    work = output / WORK
    there = {name for name in _listed(output) if name != LOCK_NAME and not PART_LOCK.fullmatch(name)}
    if MANIFEST_NAME in there:
        if not isinstance(read_object(output / MANIFEST_NAME).get("settings"), dict):
            raise InputError(f"{output / MANIFEST_NAME} does not belong to a conversion; give an empty folder")
        return
    if WORK in there and (work.is_symlink() or not work.is_dir()):
        raise InputError(f"{work} is not a folder of a conversion; give an empty folder")
    if WORK in there and (PLAN in (worked := _listed(work)) or all(map(_TEMPORARY.fullmatch, worked))):
        if PLAN in worked:
            return
        there -= {WORK}
    if there:
        raise InputError(f"{output} holds {min(there)!r} and is not the output of a conversion; give an empty folder")


def clear_temporary(output: Path, numbers: Container[int] | None = None) -> None:
    """Delete the temporary files of a killed conversion, found by their names.

    Args:
        output: the folder of the conversion.
        numbers: delete only the files of these chunks; None deletes all.
    """
    for folder in (output, output / WORK):
        for name in _listed(folder):
            found = _TEMPORARY.fullmatch(name)
            if found and (numbers is None or (found["chunk"] and int(found["chunk"]) in numbers)):
                (folder / name).unlink(missing_ok=True)


def clear_work(output: Path) -> None:
    """Delete the plan, the records and the locks of the parts of a finished conversion, and no other files."""
    for lock in part_locks(output):
        lock.unlink(missing_ok=True)
    work = output / WORK
    if work.is_symlink() or not work.is_dir():
        return
    for name in _listed(work):
        if _WORKED.fullmatch(name) or _TEMPORARY.fullmatch(name):
            (work / name).unlink(missing_ok=True)
    if not _listed(work):
        work.rmdir()


def manifest_chunks(output: Path, manifest: dict[str, Any]) -> tuple[list[dict[str, Any]], list[str]]:
    """The records of unchanged chunks of a finished conversion, and the names of changed or missing files.

    Raises:
        InputError: the manifest is damaged.
    """
    try:
        whole = [record for record in manifest["chunks"] if _size(output / record["name"]) == record["bytes"]]
        kept = {record["name"] for record in whole}
        damaged = [record["name"] for record in manifest["chunks"] if record["name"] not in kept]
        iter(manifest["plan"])
    except (KeyError, TypeError) as error:
        raise InputError(f"{output / MANIFEST_NAME} is damaged; convert into a new folder") from error
    return whole, damaged + [name for name in (INDEX_NAME, FRAME_INDEX_NAME) if _size(output / name) < 1]


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1


def read_object(path: Path) -> dict[str, Any]:
    """Read a JSON file of a conversion.

    Raises:
        InputError: the file cannot be read or does not hold an object.
    """
    try:
        return read_json_object(path, root=None, limit=MAX_FILE_BYTES)
    except FileError as error:
        raise InputError(f"{path}: {error}") from error


def _listed(folder: Path) -> set[str]:
    try:
        return set(os.listdir(folder))
    except FileNotFoundError:
        return set()
    except OSError as error:
        raise InputError(f"{folder} cannot be written to: {error.strerror or error}") from error
