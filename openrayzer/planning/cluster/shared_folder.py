"""The check of the run folder: whether all ranks share it, and whether checkpoints are safe in it."""

import os
import shutil
import time
from pathlib import Path
from uuid import uuid4

from openrayzer.interfaces import InputError
from openrayzer.machine.distributed import Process
from openrayzer.planning.cluster.findings import Finding

TIMEOUT = 10.0
"""Seconds until all machines must see a file that one of them wrote, because network file systems have caches."""
BLOCK = 64 * 2**20
_REPLACEMENTS = 40  # of a file that the other ranks read meanwhile


def check_folder(process: Process, folder: Path, *, needed: float = 0.0) -> list[Finding]:
    """Write, read, replace and rename files in ``folder``, then remove them.

    Args:
        process: this process.
        folder: the run folder; it need not exist.
        needed: bytes that checkpoints will take; 0 if unknown.

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
    """Whether all ranks see the file of rank 0, and rank 0 sees the files of all ranks."""
    begin = time.monotonic()
    here = _wait(lambda: (place / "from_rank_0").read_text() == place.name)
    if here:
        (place / f"rank_{process.rank}").write_text("")
    blind = [rank for rank, saw in enumerate(process.gather(here)) if not saw]
    if blind:
        found = (
            f"rank(s) {blind} do not see a file of rank 0 in {place.parent}: all machines must share its file system"
        )
        return Finding("shared folder", "FAILS", found)
    names = [f"rank_{rank}" for rank in range(process.world_size)]
    back = process.by_first(lambda: _wait(lambda: set(names) <= {path.name for path in place.iterdir()}))
    seconds = max(process.gather(time.monotonic() - begin))
    found = f"all ranks see it, after {seconds:.2f} s" if back else "rank 0 does not see the files of the other ranks"
    return Finding("shared folder", "ok" if back else "FAILS", found)


def _renamed(process: Process, place: Path) -> Finding:
    """Whether a complete folder that rank 0 renames appears complete on all ranks."""
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
    """Whether a file that rank 0 replaces many times is always present and complete."""
    file, faults = place / "replaced", 0
    if process.is_first:
        file.write_text("0" * 4096)
    process.barrier()
    _wait(file.exists)
    for number in range(_REPLACEMENTS):
        if process.is_first:
            other = place / "replaced.tmp"
            other.write_text(str(number % 10) * 4096)
            other.replace(file)
        try:
            text = file.read_text()
            faults += not (len(text) == 4096 and len(set(text)) == 1)
        except OSError:  # missing or stale
            faults += 1
    bad = [rank for rank, count in enumerate(process.gather(faults)) if count]
    if bad:
        return Finding("replace", "warning", f"rank(s) {bad} found a file missing or incomplete while it was replaced")
    return Finding("replace", "ok", f"atomic, {_REPLACEMENTS} times")


def _flushed(process: Process, place: Path) -> Finding:
    """The speed at which all ranks write to the disk at once, as in a checkpoint."""
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
    """Whether ``condition()`` becomes true within ``TIMEOUT``. A file that is still missing is no error."""
    assert callable(condition)
    end = time.monotonic() + TIMEOUT
    while True:
        try:
            if condition():
                return True
        except OSError:
            pass
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
