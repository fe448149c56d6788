"""From files that were written to a checkpoint that exists, and which of the older ones stay.

Whatever dies at whatever moment, the checkpoint before stays good.
"""

import errno
import json
import logging
import os
import shutil
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from openrayzer.training.checkpointing.best_checkpoint import METRICS, Best
from openrayzer.weights.checkpoints.manifest import (
    BEST,
    LATEST,
    MANIFEST,
    checkpoints_in,
    checksum,
    damage_of,
    manifests,
    read_manifest,
)

LOG = logging.getLogger(__name__)
Files = dict[str, list[int]]
"""Size in bytes and checksum by name."""
_PATIENCE = 60.0
"""Seconds in which what another machine wrote must be seen here: network file systems remember listings that long."""
_NO_FLUSH = (errno.EINVAL, errno.ENOTSUP, errno.EBADF)
"""What file systems say whose folders cannot be flushed."""


def describe(folder: Path, names: Iterable[str]) -> Files:
    """Sizes and checksums of files in ``folder``."""
    return {name: [(folder / name).stat().st_size, checksum(folder / name)] for name in names}


def publish(unfinished: Path, final: Path, manifest: Mapping[str, Any]) -> None:
    """Read back, describe, rename, announce.

    Args:
        unfinished: holds files that those who wrote them have flushed.
        final: its name from now on.
        manifest: names all files in ``files``, with size and checksum as they were written.

    Raises:
        OSError: it cannot be written, or holds something else than was written.
    """
    _see(unfinished, manifest["files"])
    write_text(unfinished / MANIFEST, json.dumps(manifest, indent=1))
    flush(unfinished)
    damage = damage_of(unfinished)
    if damage:
        raise OSError(f"read back differently than written: {damage}")
    if final.exists():
        shutil.rmtree(_put_aside(final))
    unfinished.rename(final)
    flush(final.parent)
    _replace(final.parent / LATEST, final.name)


def prune(folder: Path, *, keep: int, best: Best | None) -> None:
    """Remove all but the newest and the best; what cannot be removed is a warning, as nothing is lost by it."""
    try:
        chosen = best.among(manifests(folder)) if best else None  # what cannot be read is no best one
        if chosen is not None:
            _replace(folder / BEST, chosen.name)
        elif best:
            (folder / BEST).unlink(missing_ok=True)
        for path in checkpoints_in(folder)[:-keep]:
            if path != chosen:
                shutil.rmtree(_put_aside(path))
    except OSError as error:
        LOG.warning("%s: old checkpoints could not be removed: %s", folder, error)


def add_metrics(checkpoint: Path, metrics: Mapping[str, Any]) -> None:
    """Write the metrics of a finished checkpoint into its manifest. A kill leaves the manifest before or after it.

    Raises:
        OSError: the manifest cannot be written.
        InputError: the checkpoint has no readable manifest.
    """
    manifest = read_manifest(checkpoint) | {METRICS: dict(metrics)}
    _replace(checkpoint / MANIFEST, json.dumps(manifest, indent=1))


def write_text(file: Path, text: str) -> None:
    """Write a file to the disk."""
    with file.open("w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())


def flush(path: Path) -> None:
    """To the disk, and out of memory, so that what is read next comes from the disk; a file or a folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    except OSError as error:
        if not (path.is_dir() and error.errno in _NO_FLUSH):
            raise
    finally:
        os.close(descriptor)


def _see(folder: Path, files: Iterable[str]) -> None:
    """Wait until all files can be seen from here."""
    end = time.monotonic() + _PATIENCE
    while missing := [name for name in files if not (folder / name).is_file()]:
        if time.monotonic() > end:
            raise OSError(f"another process wrote {missing[0]}, but it is not in {folder}; is that a shared folder?")
        time.sleep(0.2)


def _replace(file: Path, text: str) -> None:
    unfinished = file.with_name(f"{file.name}.tmp")
    write_text(unfinished, text)
    unfinished.replace(file)
    with suppress(OSError):  # it is there; only a power cut could take it back
        flush(file.parent)


def _put_aside(path: Path) -> Path:
    """Rename first, so that dying half way through the removal leaves no half checkpoint under a good name."""
    return path.rename(path.with_name(f"{path.name}.old.tmp"))
