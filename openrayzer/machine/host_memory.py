"""Memory that a process may still take on this machine before the system kills it."""

from collections.abc import Iterator
from pathlib import Path

PROC, GROUPS = Path("/proc"), Path("/sys/fs/cgroup")


def available_bytes(*, proc: Path = PROC, groups: Path = GROUPS) -> int | None:
    """Free bytes of the machine or of the process's control groups, whichever is less; None if unknown.

    Containers, batch systems and systemd limit a process by control groups. The system kills a process that exceeds the
    limit of any of its groups, even if the machine has free memory. Pages of files that were not read lately count as
    free, because the kernel reclaims them.

    Args:
        proc: the kernel's folder about processes.
        groups: the kernel's folder about control groups, version 1 or 2.

    Source: Linux' documentation, filesystems/proc (MemAvailable), admin-guide/cgroup-v2 and cgroup-v1/memory.
    """
    known = [*_of_machine(proc), *_of_groups(proc, groups)]
    return max(0, min(known)) if known else None


def _of_machine(proc: Path) -> Iterator[int]:
    for name, value in _table(proc / "meminfo"):
        if name == "MemAvailable:":
            yield value * 1024


def _of_groups(proc: Path, groups: Path) -> Iterator[int]:
    try:
        lines = (proc / "self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            names = ("memory.max", "memory.current", "inactive_file")
            yield from _left_in(groups, path, *names)
        elif "memory" in controllers.split(","):
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            yield from _left_in(groups / "memory", path, *names)


def _left_in(root: Path, path: str, limit: str, used: str, reclaimed: str) -> Iterator[int]:
    """Free bytes of the group and of each group above it; a container sees its own group as the root."""
    parts = [] if ".." in path else [part for part in path.split("/") if part]
    for depth in range(len(parts) + 1):
        folder = root.joinpath(*parts[:depth])
        try:
            most, taken = (int((folder / name).read_text(encoding="utf-8")) for name in (limit, used))
        except (OSError, ValueError):  # there is no such group, or its limit is "max"
            continue
        yield most - taken + dict(_table(folder / "memory.stat")).get(reclaimed, 0)


def _table(file: Path) -> Iterator[tuple[str, int]]:
    """Names and numbers of a file with one pair on each line."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        name, value, *_ = [*line.split(), "", ""]
        if value.isdigit():
            yield name, int(value)
