"""Publishing the written files of a checkpoint, and removing older checkpoints.

If the process or the machine dies, at any moment, the checkpoint before stays good.
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

from openrayzer.training.checkpointing.best_checkpoint import METRICS, BestRule
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
_VISIBLE = 60.0
"""Seconds to wait for files of another machine: network file systems cache folder listings for that long."""
_NO_FLUSH = (errno.EINVAL, errno.ENOTSUP, errno.EBADF)
"""Errors of file systems that cannot flush a folder."""


def describe(folder: Path, names: Iterable[str]) -> Files:
    """Sizes and checksums of files in ``folder``."""
    return {name: [(folder / name).stat().st_size, checksum(folder / name)] for name in names}


def publish(unfinished: Path, final: Path, manifest: Mapping[str, Any]) -> None:
    """Read the files back, write the manifest, rename the folder, and let ``latest`` name it.

    Args:
        unfinished: folder with files that their writers have flushed.
        final: name of the finished checkpoint.
        manifest: its ``files`` holds size and checksum of every file.

    Raises:
        OSError: the disk cannot be written, or a file does not have its checksum.
    """
    _wait_for(unfinished, manifest["files"])
    write_text(unfinished / MANIFEST, json.dumps(manifest, indent=1))
    flush(unfinished)
    damage = damage_of(unfinished)
    if damage:
        raise OSError(f"the disk does not hold what was written: {damage}")
    former = _put_aside(final) if final.exists() else None
    unfinished.rename(final)
    flush(final.parent)
    if former is not None:
        shutil.rmtree(former)
    _replace(final.parent / LATEST, final.name)


def prune(folder: Path, *, keep: int, best: BestRule | None) -> None:
    """Remove all checkpoints but the newest ``keep`` and the best; let ``best`` name the best. Errors are warnings."""
    try:
        chosen = best.among(manifests(folder)) if best else None  # unreadable manifests do not take part
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
    """Add the metrics to the manifest of a finished checkpoint. A kill leaves the manifest with or without them.

    Raises:
        OSError: the manifest cannot be written.
        InputError: the checkpoint has no readable manifest.
    """
    manifest = read_manifest(checkpoint) | {METRICS: dict(metrics)}
    _replace(checkpoint / MANIFEST, json.dumps(manifest, indent=1))


def write_text(file: Path, text: str) -> None:
    """Write a file and flush it to the disk."""
    with file.open("w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())


def flush(path: Path) -> None:
    """Flush a file or folder to the disk and drop it from memory, so that the next reading comes from the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    except OSError as error:
        if not (path.is_dir() and error.errno in _NO_FLUSH):
            raise
    finally:
        os.close(descriptor)


def _wait_for(folder: Path, files: Iterable[str]) -> None:
    """Wait until all files are visible on this machine."""
    end = time.monotonic() + _VISIBLE
    while missing := [name for name in files if not (folder / name).is_file()]:
        if time.monotonic() > end:
            raise OSError(f"another process wrote {missing[0]}, but it is not in {folder}; is that a shared folder?")
        time.sleep(0.2)


def _replace(file: Path, text: str) -> None:
    unfinished = file.with_name(f"{file.name}.tmp")
    write_text(unfinished, text)
    unfinished.replace(file)
    with suppress(OSError):  # the file is there; only a power cut could undo the renaming
        flush(file.parent)


def _put_aside(path: Path) -> Path:
    """Rename a folder before its removal, so that a kill leaves no half checkpoint under a good name."""
    return path.rename(path.with_name(f"{path.name}.old.tmp"))
