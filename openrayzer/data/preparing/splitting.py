"""Division of the scenes of a dataset into training and test lists without the scenes of a benchmark."""

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
"""The name of a DL3DV scene inside a longer name."""

BENCHMARK_SIZE = 140

BENCHMARK_HELP = (
    "the full release of DL3DV includes the 140 scenes of its benchmark; do not train on them. openrayzer does "
    "not include their names: give a file that lists them, --benchmark FILE, such as the table of "
    "huggingface.co/datasets/DL3DV/DL3DV-Benchmark or RayZer's rayzer_evaluation_index_dl3dv_even.json, or give "
    "--keep_benchmark"
)


@dataclass(frozen=True)
class Split:
    """Lists of scene names; each scene is in one list."""

    train: list[str]
    test: list[str]
    benchmark: list[str]


def split_scenes(
    keys: Sequence[str], *, benchmark: frozenset[str] | None, test: frozenset[str], test_share: float, seed: int
) -> Split:
    """Divide scenes into lists. The list of a scene depends only on its name and the seed, not on other scenes.

    Args:
        keys: names of all scenes.
        benchmark: scenes to keep out of both other lists; None for none.
        test: scenes of the test list.
        test_share: share of the remaining scenes that also go to the test list, from 0 to below 1.
        seed: seed of the random choice.

    Raises:
        InputError: the share is out of range, or no scene is left for training.
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
        raise InputError(f"none of the {len(keys)} scenes is left for training")
    return split


def unmatched(names: Iterable[str], keys: Iterable[str]) -> list[str]:
    """Sorted names that belong to no scene."""
    return sorted(set(names) - {scene_name(key) for key in keys})


def check_benchmark(names: frozenset[str] | None, keys: Sequence[str]) -> list[str]:
    """Compare the names of a benchmark with the scenes of a dataset; return one sentence per difference.

    Raises:
        InputError: the scenes are from DL3DV, and the benchmark names none of them.
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
    """Whether any scene has a name like the scenes of DL3DV."""
    return any(_HASH.search(key) for key in keys)


def scene_name(text: str) -> str:
    """A scene's name for comparisons: the 64 digits of a DL3DV scene, or else the stripped text."""
    found = _HASH.findall(text.lower())
    return found[-1] if found else text.strip()


def read_scene_names(path: Path | str) -> frozenset[str]:
    """Read the scene names in a file.

    Args:
        path: an evaluation index (its keys), a JSON list (its names, or the ``scene_name`` of its objects), a text
            file (its lines) or a table (all names of DL3DV scenes in it).

    Raises:
        InputError: the file cannot be read or names no scenes.
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
    """Write ``train.txt``, ``test.txt`` and, if it has scenes, ``benchmark.txt``, with one name per line.

    Raises:
        InputError: a file cannot be written, or a name would be read back as a different name or as a comment.
    """
    for key in (*split.train, *split.test, *split.benchmark):
        if list(lines_of(key)) != [key]:
            raise InputError(f"scene {key!r} cannot be written to a list: lines are stripped, and a # begins a comment")
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
        raise InputError(f"{path} holds neither an object nor a list of scene names")
    return frozenset(scene_name(name) for name in content if isinstance(name, str))


def _draw(key: str, seed: int) -> float:
    """A number in [0, 1) that depends only on the name and the seed."""
    digest = hashlib.sha256(f"{seed} {scene_name(key)}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
