"""Names of scenes, and text files that list them."""

from pathlib import Path, PurePosixPath

from openrayzer.interfaces import InputError
from openrayzer.machine.plain_files import FileError, read_plain_file

_HASH_LENGTH = 64  # hexadecimal digits of the name of a DL3DV scene


def is_usable_key(key: str) -> bool:
    """Whether a scene's name can be part of file names that stay inside their folder."""
    parts = PurePosixPath(key.replace("\\", "/"))
    return bool(key.strip()) and key.isprintable() and not parts.is_absolute() and ".." not in parts.parts


def relative_key(place: Path, root: Path) -> str:
    """A scene's name: its path relative to the root, or the name of the root if both are the same.

    The name of a DL3DV scene is its hash of 64 hexadecimal digits, independent of its folder.
    """
    parts = place.relative_to(root).parts
    hashes = [part for part in parts if len(part) == _HASH_LENGTH and not set(part) - set("0123456789abcdef")]
    return hashes[-1] if hashes else "/".join(parts) or root.absolute().name


def read_lines(path: Path) -> dict[str, int]:
    """Read the lines of a text file, see ``lines_of``.

    Raises:
        InputError: the file cannot be read.
    """
    try:
        return lines_of(read_plain_file(path, root=None).decode("utf-8"))
    except (FileError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: {error}") from error


def lines_of(text: str) -> dict[str, int]:
    """Stripped lines of a list -> number of their first occurrence, from 1; without blank lines and # comments."""
    lines: dict[str, int] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if (stripped := line.strip()) and not stripped.startswith("#"):
            lines.setdefault(stripped, number)
    return lines
