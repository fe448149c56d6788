"""Folders that are read and folders that are written, kept apart."""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from openrayzer.interfaces import Dataset, InputError
from openrayzer.machine.plain_files import require_folder, within
from openrayzer.machine.writing import unwritable, whole_file


def chunk_folders(root: Path | str) -> list[Path]:
    """The folder itself if it holds chunks, else those in it that do.

    Raises:
        InputError: there are none.
    """
    root = Path(root)
    require_folder(root)
    try:
        if _has_chunks(root):
            return [root]
        found = [folder for folder in sorted(root.iterdir()) if folder.is_dir() and _has_chunks(folder)]
    except OSError as error:
        raise InputError(f"{error.filename or root} cannot be listed: {error.strerror or error}") from error
    if not found:
        raise InputError(f"no chunks: looked for {root / '*.torch'} and {root / '*' / '*.torch'}")
    return found


def _has_chunks(folder: Path) -> bool:
    return any(name.endswith(".torch") for name in os.listdir(folder))  # glob hides folders that cannot be listed


def require_apart(output: Path, source: Path) -> None:
    """Raise InputError if one folder is, or lies in, the other, whatever links lead to them."""
    for inner, outer in ((output, source), (source, output)):
        if within(inner, outer):
            raise InputError(
                f"the output {output} and the source {source} must not lie in each other: what is written would be "
                "read, or what is read overwritten"
            )


def require_no_overwriting(dataset: Dataset, written: Iterable[Path]) -> None:
    """Raise InputError if one of the files to write is there already and lies in the folder of a source."""
    root = getattr(dataset, "root", None)
    for path in written:
        if isinstance(root, Path) and path.exists() and within(path, root):
            raise InputError(f"{path} exists already and lies within the source {root}: it would be overwritten; give "
                             "another place, or delete it first")  # fmt: skip


def write_json(path: Path | str, content: Any) -> None:
    """Write a JSON file; it exists completely or not at all.

    A name that is no UTF-8 is written with JSON's own escapes and read back as it was.

    Raises:
        InputError: it cannot be written.
    """
    text = (json.dumps(content, ensure_ascii=False, indent=1) + "\n").encode("utf-8", "backslashreplace")
    try:
        with whole_file(Path(path)) as temporary:
            temporary.write_bytes(text)
    except OSError as error:
        raise unwritable(Path(path), error) from error
