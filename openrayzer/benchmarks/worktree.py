"""Access to the files of another commit."""

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from openrayzer.interfaces import InputError

_HERE = Path(__file__).parents[2]


@contextmanager
def worktree(commit: str) -> Iterator[Path]:
    """A temporary folder with the files of a commit of this repository.

    Raises:
        InputError: the commit does not exist, or git is not installed.
    """
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "tree"
        _git("worktree", "add", "--detach", str(place), commit)
        try:
            yield place
        finally:
            _git("worktree", "remove", "--force", str(place))


def _git(*arguments: str) -> None:
    try:
        done = subprocess.run(["git", "-C", str(_HERE), *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise InputError("comparing commits needs git") from error
    if done.returncode:
        raise InputError(f"git {' '.join(arguments)}: {done.stderr.strip()}")
