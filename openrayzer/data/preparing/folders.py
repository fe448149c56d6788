"""Folders of chunks to read, and checks that no output overwrites a source."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from openrayzer.interfaces import Dataset, InputError
from openrayzer.machine.plain_files import list_folder, require_folder, within
from openrayzer.machine.remote_paths import located
from openrayzer.machine.writing import unwritable, whole_file


def chunk_folders(root: Path | str) -> list[Path]:
    """Folders of chunks: ``root`` itself if it holds chunks, or else its subfolders with chunks.

    Raises:
        InputError: there are no chunks.
    """
    root = located(root)
    require_folder(root)
    try:
        if _has_chunks(root):
            return [root]
        found = [root / name for name in sorted(list_folder(root)[1]) if _has_chunks(root / name)]
    except OSError as error:
        raise InputError(f"{error.filename or root} cannot be listed: {error.strerror or error}") from error
    if not found:
        raise InputError(f"no chunks: looked for {root / '*.torch'} and {root / '*' / '*.torch'}")
    return found


def _has_chunks(folder: Path) -> bool:
    return any(name.endswith(".torch") for name in list_folder(folder)[0])


def require_apart(output: Path, source: Path) -> None:
    """Raise InputError if the folders are equal or one lies in the other, with links followed."""
    for inner, outer in ((output, source), (source, output)):
        if within(inner, outer):
            raise InputError(
                f"the output {output} and the source {source} must be separate folders: otherwise the output would be "
                "read, or the source overwritten"
            )


def require_no_overwriting(dataset: Dataset, written: Iterable[Path]) -> None:
    """Raise InputError if a file to write exists already inside the folder of a source."""
    root = getattr(dataset, "root", None)
    for path in written:
        if isinstance(root, Path) and path.exists() and within(path, root):
            raise InputError(f"{path} exists in the source {root} and would be overwritten; give another path, or "
                             "delete it first")  # fmt: skip


def write_json(path: Path | str, content: Any) -> None:
    """Write a JSON file; it exists completely or not at all.

    Names that are not UTF-8 are written with JSON escapes, so that reading gives the same names.

    Raises:
        InputError: the file cannot be written.
    """
    text = (json.dumps(content, ensure_ascii=False, indent=1) + "\n").encode("utf-8", "backslashreplace")
    try:
        with whole_file(Path(path)) as temporary:
            temporary.write_bytes(text)
    except OSError as error:
        raise unwritable(Path(path), error) from error
