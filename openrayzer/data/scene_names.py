"""Names of scenes, and files that list them."""

from pathlib import Path, PurePosixPath

from openrayzer.interfaces import InputError
from openrayzer.machine.plain_files import FileError, read_plain_file


def is_usable_key(key: str) -> bool:
    """Whether a scene's name can be part of file names that stay inside their folder."""
    parts = PurePosixPath(key.replace("\\", "/"))
    return bool(key.strip()) and key.isprintable() and not parts.is_absolute() and ".." not in parts.parts


def relative_key(place: Path, root: Path) -> str:
    """A scene's name: where it is below the root; the root's own name where it is the root.

    DL3DV's scenes are named by 64 hexadecimal digits, which are their name wherever they are.
    """
    parts = place.relative_to(root).parts
    hashes = [part for part in parts if len(part) == 64 and not set(part) - set("0123456789abcdef")]
    return hashes[-1] if hashes else "/".join(parts) or root.absolute().name


def read_lines(path: Path) -> dict[str, int]:
    """What ``lines_of`` finds in a file.

    Raises:
        InputError: it cannot be read.
    """
    try:
        return lines_of(read_plain_file(path, root=None).decode("utf-8"))
    except (FileError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: {error}") from error


def lines_of(text: str) -> dict[str, int]:
    """Lines of a list and where they first are; blank lines, repetitions, and what follows a ``#`` at a line's start
    are left out.
    """
    lines: dict[str, int] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if (stripped := line.strip()) and not stripped.startswith("#"):
            lines.setdefault(stripped, number)
    return lines
