"""Folders that are read and folders that are written, kept apart."""

from pathlib import Path

from openrayzer.data.plain_files import require_folder, within
from openrayzer.interfaces import InputError


def chunk_folders(root: Path) -> list[Path]:
    """The folder itself if it holds chunks, else those in it that do.

    Raises:
        InputError: there are none.
    """
    require_folder(root)
    try:
        if any(root.glob("*.torch")):
            return [root]
        found = sorted(folder for folder in root.iterdir() if folder.is_dir() and any(folder.glob("*.torch")))
    except OSError as error:
        raise InputError(f"{error.filename or root} cannot be listed: {error.strerror or error}") from error
    if not found:
        raise InputError(f"no chunks: looked for {root / '*.torch'} and {root / '*' / '*.torch'}")
    return found


def require_apart(output: Path, source: Path) -> None:
    """Raise InputError if one folder is, or lies in, the other, whatever links lead to them."""
    for inner, outer in ((output, source), (source, output)):
        if within(inner, outer):
            raise InputError(
                f"the output {output} and the source {source} must not lie in each other: what is written would be "
                "read, or what is read overwritten"
            )
