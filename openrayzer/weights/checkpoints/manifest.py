"""What a checkpoint is, and which of them is good.

A checkpoint exists completely or not at all: ``checkpoints/step_00001000/`` holds files whose sizes and checksums its
manifest names. ``saving`` writes them, ``restoring`` takes them back.
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
"""Files beside the checkpoints that name one of them."""
FORMAT = 1
_NAME = re.compile(r"step_(\d{8,})")
_CHUNK = 1 << 20


def checkpoint_name(step: int) -> str:
    """``step_00001000``: names sort like numbers."""
    return f"step_{step:08d}"


def rank_file(rank: int) -> str:
    """Name of what one process needs to go on."""
    return f"rank_{rank:05d}.pt"


def checkpoints_in(folder: Path) -> list[Path]:
    """All checkpoints, good or not, from the oldest to the newest."""
    return sorted((path for path in folder.glob("step_*") if _NAME.fullmatch(path.name)), key=_step)


def checksum(file: Path) -> int:
    """CRC-32 of a file."""
    value = 0
    with file.open("rb") as stream:
        while block := stream.read(_CHUNK):
            value = zlib.crc32(block, value)
    return value


def newest_good(folder: Path) -> Path | None:
    """The newest checkpoint in ``folder`` that is complete and undamaged; None if there never was any.

    Raises:
        InputError: there are checkpoints, but all of them are damaged.
    """
    found = checkpoints_in(folder)[::-1]
    for path in found:
        damage = damage_of(path)
        if not damage:
            return path
        LOG.error("CHECKPOINT %s IS DAMAGED (%s); falling back to the one before", path, damage)
    if found:
        raise InputError(
            f"{folder}: all {len(found)} checkpoint(s) are damaged, the newest: {damage_of(found[0])}. Training does "
            "not start again from nothing unasked: restore a checkpoint, or choose another --output"
        )
    return None


def damage_of(path: Path) -> str:
    """What is wrong with a checkpoint, in a few words; empty if sizes and checksums are those of its manifest."""
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
    """Step, number of processes, ZeRO stage and files of a checkpoint.

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
    """The manifests of all checkpoints in ``folder`` that have a readable one."""
    found = {}
    for path in checkpoints_in(folder):
        with suppress(InputError):
            found[path] = read_manifest(path)
    return found


def best_name(folder: Path) -> str:
    """Name of the best checkpoint in ``folder``.

    Raises:
        InputError: none was chosen.
    """
    try:
        return (folder / BEST).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise InputError(
            f"{folder} has no best checkpoint; set train.best_metric, e.g. to psnr, to have one kept"
        ) from error


def _step(path: Path) -> int:
    return int(path.name.removeprefix("step_"))
