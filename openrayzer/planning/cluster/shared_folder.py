"""The folder of a run: whether all ranks see one and the same, and whether checkpoints are safe in it."""

import os
import shutil
import time
from pathlib import Path
from uuid import uuid4

from openrayzer.interfaces import InputError
from openrayzer.machine.distributed import Process
from openrayzer.planning.cluster.findings import Finding

PATIENCE = 10.0
"""Seconds until what one machine wrote must be seen by the others; network file systems cache."""
BLOCK = 64 * 2**20
_REPLACED = 40  # times that a file is replaced while the others read it


def check_folder(process: Process, folder: Path, *, needed: float = 0.0) -> list[Finding]:
    """Write, see, replace and rename in ``folder``; what was made is removed.

    Args:
        process: this process.
        folder: of the run, or where it will be.
        needed: bytes that checkpoints will take; 0 if that is not known.

    Raises:
        InputError: rank 0 cannot write there.
    """
    place = process.by_first(lambda: _make(folder))
    findings = [_seen(process, place)]
    if findings[0].verdict == "ok":
        findings += [_renamed(process, place), _replaced(process, place), _flushed(process, place)]
    process.barrier()
    findings.append(process.by_first(lambda: _free(place, needed)))
    if process.is_first:
        shutil.rmtree(place, ignore_errors=True)
    return findings


def _make(folder: Path) -> Path:
    place = folder / f".check_cluster_{uuid4().hex}"
    try:
        place.mkdir(parents=True)
        (place / "from_rank_0").write_text(place.name)
        return place.absolute()
    except OSError as error:
        raise InputError(f"--output {folder}: cannot be written: {error.strerror or error}") from error


def _seen(process: Process, place: Path) -> Finding:
    """All see what rank 0 wrote, and rank 0 sees what all write."""
    begin = time.monotonic()
    here = _wait(lambda: (place / "from_rank_0").read_text() == place.name)
    if here:
        (place / f"rank_{process.rank}").write_text("")
    blind = [rank for rank, saw in enumerate(process.gather(here)) if not saw]
    if blind:
        found = (
            f"rank(s) {blind} do not see what rank 0 wrote to {place.parent}: all machines must share its file system"
        )
        return Finding("shared folder", "FAILS", found)
    names = [f"rank_{rank}" for rank in range(process.world_size)]
    back = process.by_first(lambda: _wait(lambda: set(names) <= {path.name for path in place.iterdir()}))
    seconds = max(process.gather(time.monotonic() - begin))
    found = f"all ranks see it, after {seconds:.2f} s" if back else "rank 0 does not see what the others write"
    return Finding("shared folder", "ok" if back else "FAILS", found)


def _renamed(process: Process, place: Path) -> Finding:
    """A folder that is complete under another name appears under its own, for all ranks, whole."""
    if process.is_first:
        (place / "whole.tmp").mkdir()
        (place / "whole.tmp" / "content").write_text("x" * 100_000)
        (place / "whole.tmp").rename(place / "whole")
    process.barrier()
    right = _wait(
        lambda: len((place / "whole" / "content").read_text()) == 100_000 and not (place / "whole.tmp").exists()
    )
    wrong = [rank for rank, good in enumerate(process.gather(right)) if not good]
    return Finding(
        "rename", "FAILS" if wrong else "ok", f"not seen by rank(s) {wrong}" if wrong else "seen by all ranks"
    )


def _replaced(process: Process, place: Path) -> Finding:
    """A file that is replaced again and again is always there and always whole."""
    file, faults = place / "replaced", 0
    if process.is_first:
        file.write_text("0" * 4096)
    process.barrier()
    _wait(file.exists)
    for number in range(_REPLACED):
        if process.is_first:
            other = place / "replaced.tmp"
            other.write_text(str(number % 10) * 4096)
            other.replace(file)
        try:
            text = file.read_text()
            faults += not (len(text) == 4096 and len(set(text)) == 1)
        except OSError:  # gone, or stale
            faults += 1
    bad = [rank for rank, count in enumerate(process.gather(faults)) if count]
    if bad:
        return Finding("replace", "warning", f"rank(s) {bad} saw a file missing or half while it was replaced")
    return Finding("replace", "ok", f"atomic, {_REPLACED} times")


def _flushed(process: Process, place: Path) -> Finding:
    """How fast each rank gets bytes onto the disk, all at once, as in a checkpoint."""
    block = os.urandom(2**20) * (BLOCK // 2**20)
    process.barrier()
    begin = time.perf_counter()
    with (place / f"block_{process.rank}").open("wb") as file:
        file.write(block)
        file.flush()
        os.fsync(file.fileno())
    seconds = max(process.gather(time.perf_counter() - begin))
    rate = BLOCK * process.world_size / seconds / 1e6
    found = f"{rate:,.0f} MB/s over all ranks, with fsync"
    return Finding("writing", "ok" if rate > 50 else "warning", found + "; checkpoints will be slow" * (rate <= 50))


def _free(place: Path, needed: float) -> Finding:
    free = shutil.disk_usage(place).free
    found = f"{free / 2**30:,.1f} GiB free"
    if needed:
        found += f", checkpoints take up to {needed / 2**30:,.1f} GiB"
    enough = free > 1.2 * needed + 2**30
    return Finding("disk", "ok" if enough else "FAILS", found)


def _wait(condition: object) -> bool:
    """Whether ``condition()`` comes true in time; a file that is not there yet is no error."""
    assert callable(condition)
    end = time.monotonic() + PATIENCE
    while True:
        try:
            if condition():
                return True
        except OSError:
            pass
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
