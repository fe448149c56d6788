"""Training and test lists of a source's scenes, with the benchmark's scenes in neither."""

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openrayzer.data.scene_names import lines_of
from openrayzer.interfaces import InputError
from openrayzer.machine.plain_files import FileError, read_plain_file
from openrayzer.machine.writing import whole_file

_HASH = re.compile(r"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")
"""A DL3DV scene's name, with whatever a port puts around it."""

BENCHMARK_SIZE = 140

BENCHMARK_HELP = (
    "DL3DV's 140 benchmark scenes are among the scenes of its full release and must not be trained on. Their names are "
    "not part of openrayzer: give a file that lists them, --benchmark FILE, such as the table that comes "
    "with huggingface.co/datasets/DL3DV/DL3DV-Benchmark or RayZer's rayzer_evaluation_index_dl3dv_even.json, or say "
    "--keep_benchmark"
)


@dataclass(frozen=True)
class Split:
    """Scene names, each in one list."""

    train: list[str]
    test: list[str]
    benchmark: list[str]


def split_scenes(
    keys: Sequence[str], *, benchmark: frozenset[str] | None, test: frozenset[str], test_share: float, seed: int
) -> Split:
    """Divide scenes; which list one is in depends on its name and the seed only, not on the others.

    Args:
        keys: names of all scenes.
        benchmark: scenes that are neither trained nor tested on; None keeps all.
        test: scenes that are tested on.
        test_share: share of the others that are too.
        seed: of the choice.

    Raises:
        InputError: DL3DV's scenes are divided without the benchmark's names, or nothing is left to train on.
    """
    if not 0 <= test_share < 1:
        raise InputError(f"the share of test scenes must be from 0 to below 1, got {test_share}")
    split = Split([], [], [])
    for key in keys:
        if benchmark and scene_name(key) in benchmark:
            split.benchmark.append(key)
        elif scene_name(key) in test or _draw(key, seed) < test_share:
            split.test.append(key)
        else:
            split.train.append(key)
    if not split.train:
        raise InputError(f"no scene of {len(keys)} is left to train on")
    return split


def unmatched(names: Iterable[str], keys: Iterable[str]) -> list[str]:
    """Those of some listed names that are no scene's, in order."""
    return sorted(set(names) - {scene_name(key) for key in keys})


def check_benchmark(names: frozenset[str] | None, keys: Sequence[str]) -> list[str]:
    """Sentences on how the benchmark's names fit the scenes of a source; none where there is nothing to say.

    Raises:
        InputError: the scenes are DL3DV's, and not one of them is named.
    """
    if names is None:
        return []
    matched = len(names) - len(unmatched(names, keys))
    if is_dl3dv(keys):
        if not matched:
            listed = "names none of this source's scenes" if is_dl3dv(names) else "has no name of a DL3DV scene"
            raise InputError(f"the --benchmark file {listed}, so nothing would be left out. {BENCHMARK_HELP}")
        if matched != BENCHMARK_SIZE:
            return [f"DL3DV's benchmark has {BENCHMARK_SIZE} scenes, {matched} of the {len(names)} names in the "
                    "--benchmark file are here"]  # fmt: skip
        return []
    some = len(names) - matched
    return [f"{some} of the {len(names)} names in the --benchmark file match no scene"] if some else []


def is_dl3dv(keys: Iterable[str]) -> bool:
    """Whether any scene has a name of DL3DV's kind."""
    return any(_HASH.search(key) for key in keys)


def scene_name(text: str) -> str:
    """A scene's name as lists compare it: DL3DV's 64 digits where there are any, else the text."""
    found = _HASH.findall(text.lower())
    return found[-1] if found else text.strip()


def read_scene_names(path: Path | str) -> frozenset[str]:
    """Scenes that a file names: the keys of an evaluation index, the ``scene_name`` of a JSON list, a text file's lines
    or a table's cells with a DL3DV name.

    Raises:
        InputError: it cannot be read, or names none.
    """
    path = Path(path)
    try:
        text = read_plain_file(path, root=None).decode("utf-8")
    except (FileError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: {error}") from error
    names = _names(text, is_json=path.suffix.lower() == ".json", path=path)
    if not names:
        raise InputError(f"{path} names no scenes")
    return names


def write_split(output: Path | str, split: Split) -> None:
    """Write ``train.txt``, ``test.txt`` and, where there are some, ``benchmark.txt``: one name a line.

    Raises:
        InputError: they cannot be written, or a name would be read back as another or as a comment.
    """
    for key in (*split.train, *split.test, *split.benchmark):
        if list(lines_of(key)) != [key]:
            raise InputError(f"scene {key!r} cannot stand in a list, whose lines are stripped and comments after a #")
    try:
        for name, keys in (("train", split.train), ("test", split.test), ("benchmark", split.benchmark)):
            if keys or name != "benchmark":
                text = "".join(f"{key}\n" for key in keys).encode()
                with whole_file(Path(output) / f"{name}.txt") as temporary:
                    temporary.write_bytes(text)
    except OSError as error:
        raise InputError(f"{output} cannot be written to: {error.strerror or error}") from error


def _names(text: str, *, is_json: bool, path: Path) -> frozenset[str]:
    if not is_json:
        hashes = _HASH.findall(text.lower())
        return frozenset(hashes or lines_of(text))
    try:
        content: Any = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not JSON: {error}") from error
    if isinstance(content, list):
        content = [entry.get("scene_name") if isinstance(entry, dict) else entry for entry in content]
    if not isinstance(content, (list, dict)):
        raise InputError(f"{path} is neither an object of scene names nor a list of them")
    return frozenset(scene_name(name) for name in content if isinstance(name, str))


def _draw(key: str, seed: int) -> float:
    """A number in [0, 1) that depends on both alone."""
    digest = hashlib.sha256(f"{seed} {scene_name(key)}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
