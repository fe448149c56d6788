"""Find the checkpoints of a run and check that they are complete and undamaged.

A checkpoint is a folder such as ``checkpoints/step_00001000/``. Its manifest lists every file with size and checksum.
"""

import json
import logging
import re
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any

from openrayzer.interfaces import InputError

LOG = logging.getLogger(__name__)
MANIFEST = "manifest.json"
LATEST, BEST = "latest", "best"
"""Files beside the checkpoints; each holds the name of one checkpoint."""
FORMAT = 1
"""Version of the manifest."""
_NAME = re.compile(r"step_(\d{8,})")
_CHUNK = 1 << 20


def checkpoint_name(step: int) -> str:
    """``step_00001000``: the names sort in the order of the steps."""
    return f"step_{step:08d}"


def rank_file(rank: int) -> str:
    """Name of the file that one rank writes into a checkpoint or into the dump of a bad step."""
    return f"rank_{rank:05d}.pt"


def checkpoints_in(folder: Path) -> list[Path]:
    """Return all checkpoints, damaged ones included, from the oldest to the newest."""
    return sorted((path for path in folder.glob("step_*") if _NAME.fullmatch(path.name)), key=_step)


def checksum(file: Path) -> int:
    """Return the CRC-32 of a file."""
    value = 0
    with file.open("rb") as stream:
        while block := stream.read(_CHUNK):
            value = zlib.crc32(block, value)
    return value


def newest_good(folder: Path) -> Path | None:
    """Return the newest undamaged checkpoint in ``folder``, or None if ``folder`` holds no checkpoints.

    Raises:
        InputError: all checkpoints are damaged.
    """
    found = checkpoints_in(folder)[::-1]
    for path in found:
        damage = damage_of(path)
        if not damage:
            return path
        LOG.error("CHECKPOINT %s IS DAMAGED (%s); trying the previous checkpoint", path, damage)
    if found:
        raise InputError(
            f"{folder}: all {len(found)} checkpoint(s) are damaged, the newest: {damage_of(found[0])}. Restore a "
            "checkpoint from a backup, or choose another --output to start a new training"
        )
    return None


def damage_of(path: Path) -> str:
    """Describe the damage of a checkpoint in a few words; "" if all sizes and checksums match its manifest."""
    try:
        manifest = read_manifest(path)
    except InputError as error:
        return str(error)
    for name, (size, expected) in manifest["files"].items():
        file = path / name
        if Path(name).name != name or not file.is_file():
            return f"{name} is missing"
        if file.stat().st_size != size:
            return f"{name} has {file.stat().st_size} bytes instead of {size}"
        if checksum(file) != expected:
            return f"{name} has changed since it was written"
    return ""


def read_manifest(path: Path) -> dict[str, Any]:
    """Read the manifest of a checkpoint: its step, number of ranks, ZeRO stage and files.

    Raises:
        InputError: it has no readable manifest.
    """
    try:
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        if manifest["format"] != FORMAT or not isinstance(manifest["files"], dict):
            raise ValueError(f"unknown format {manifest['format']}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: no readable {MANIFEST} ({error})") from error
    return manifest


def manifests(folder: Path) -> dict[Path, dict[str, Any]]:
    """Read the manifests of all checkpoints in ``folder``, without the unreadable ones."""
    found = {}
    for path in checkpoints_in(folder):
        with suppress(InputError):
            found[path] = read_manifest(path)
    return found


def best_name(folder: Path) -> str:
    """Return the name of the best checkpoint in ``folder``.

    Raises:
        InputError: the run has no best checkpoint.
    """
    try:
        return (folder / BEST).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise InputError(
            f"{folder} has no best checkpoint; a run keeps one if train.best_metric is set, e.g. to psnr"
        ) from error


def _step(path: Path) -> int:
    return int(path.name.removeprefix("step_"))
