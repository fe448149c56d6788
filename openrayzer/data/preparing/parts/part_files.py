"""Finished parts of an output file, in a folder beside it, until they are merged.

A part is one ``.npz`` file: ``head``, the bytes of a JSON object, and arrays. Reading it runs no code.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from openrayzer.data.preparing.parts.division import Part, missing_parts
from openrayzer.data.preparing.parts.locking import locked
from openrayzer.interfaces import InputError
from openrayzer.machine.writing import unwritable, whole_file

_FILES = "part_*_of_*.npz"


@dataclass(frozen=True)
class PartResult:
    """The result of one part.

    Attributes:
        content: plain values.
        problems: faults of the data, one sentence each.
        arrays: arrays beside the plain values.
    """

    content: dict[str, Any]
    problems: list[str] = field(default_factory=list)
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class PartFolder:
    """The folder of the parts of an output file.

    Attributes:
        output: the file that the merged parts become.
    """

    output: Path

    @property
    def folder(self) -> Path:
        """The folder."""
        return self.output.with_name(f"{self.output.name}.parts")

    def run(
        self, part: Part, make: Callable[[], PartResult], *, command: str, settings: Mapping[str, Any], contents: str
    ) -> PartResult:
        """Make a part and write it, unless it is there. A part whose source has changed is made again.

        Args:
            part: the part.
            make: computes the result.
            command: name of the command, which merges the parts.
            settings: values that all parts of the output must share; plain values.
            contents: a digest of the files that the part reads.

        Raises:
            InputError: another process writes this part, the folder has parts of something else, or it cannot be
                written.
        """
        shared = {"command": command, "total": part.total, "settings": dict(settings)}
        shared["digest"] = hashlib.sha256(json.dumps(shared, sort_keys=True).encode()).hexdigest()
        with locked(self.folder, part):
            if there := self._paths():
                _require_same(shared, _read(there[0])[0], self.folder)
            path = self.folder / f"{part.name}.npz"
            if path in there:
                head, result = _read(path)
                if head["contents"] == contents:
                    return result
            result = make()
            head = shared | {"contents": contents, "content": result.content, "problems": result.problems}
            text = json.dumps(head, ensure_ascii=False).encode("utf-8", "backslashreplace")
            try:
                with whole_file(path) as temporary, open(temporary, "wb") as file:
                    np.savez(file, allow_pickle=False, head=np.frombuffer(text, np.uint8), **result.arrays)
            except OSError as error:
                raise unwritable(path, error) from error
            return result

    @contextmanager
    def merging(self) -> Iterator["Merging"]:
        """Hold the lock of the folder while all parts are merged; the folder is removed when the block ends.

        Raises:
            InputError: there are no parts, some are missing or of something else, or another process uses the folder.
        """
        if not self._paths():
            raise InputError(f"{self.output} has no parts to merge: looked for {self.folder / _FILES}")
        with locked(self.folder):
            paths = self._paths()
            if not paths:
                raise InputError(f"the parts of {self.output} were merged a moment ago")
            first = _read(paths[0])[0]
            total = first["total"]
            expected = [self.folder / f"{part.name}.npz" for part in Part(1, total).all_parts()]
            if missing := [Part(number, total) for number, path in enumerate(expected, 1) if path not in paths]:
                raise InputError(f"{self.output}: {missing_parts(missing)}")
            yield Merging(self.folder, first["command"], first["settings"], expected, first)
            shutil.rmtree(self.folder, ignore_errors=True)

    def _paths(self) -> list[Path]:
        return sorted(self.folder.glob(_FILES))


@dataclass(frozen=True)
class Merging:
    """All parts of an output.

    Attributes:
        folder: the folder of the parts.
        command: name of the command that wrote them.
        settings: the values that they share.
        paths: their files, in order.
        head: the head of the first part.
    """

    folder: Path
    command: str
    settings: dict[str, Any]
    paths: list[Path]
    head: dict[str, Any]

    def results(self) -> Iterator[PartResult]:
        """The results of the parts, in order; one at a time is in memory.

        Raises:
            InputError: a part is damaged or of something else.
        """
        for path in self.paths:
            head, result = _read(path)
            _require_same(self.head, head, self.folder)
            yield result


def _read(path: Path) -> tuple[dict[str, Any], PartResult]:
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            head = json.loads(file["head"].tobytes())
            arrays = {name: file[name] for name in file.files if name != "head"}
        if set(head) != {"command", "total", "settings", "digest", "contents", "content", "problems"}:
            raise KeyError("head")
        return head, PartResult(head["content"], head["problems"], arrays)
    except (OSError, ValueError, KeyError, TypeError, BadZipFile) as error:
        raise InputError(f"{path} is damaged; delete it, run its part again, then merge again") from error


def _require_same(one: Mapping[str, Any], other: Mapping[str, Any], folder: Path) -> None:
    if one["digest"] == other["digest"]:
        return
    if one["command"] == other["command"] and one["settings"] == other["settings"]:
        what = f"parts of another division, into {other['total']}"
    else:
        what = "parts of another command, source or setting"
    raise InputError(f"{folder} has {what}; use the same number of parts and options, or delete the folder")
