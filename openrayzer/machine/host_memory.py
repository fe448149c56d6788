"""Memory of this machine that a process may still take before it is killed."""

from collections.abc import Iterator
from pathlib import Path

PROC, GROUPS = Path("/proc"), Path("/sys/fs/cgroup")


def available_bytes(*, proc: Path = PROC, groups: Path = GROUPS) -> int | None:
    """What the machine has available, or what the process's control groups leave, if that is less; None if unknown.

    A container, a batch system or systemd limits a process by control groups; memory above the limit of any group that
    the process is in, however much the machine has, gets it killed. Pages of files that were not read lately count as
    available, because the kernel gives them up.

    Args:
        proc: where the kernel tells about processes.
        groups: where it tells about control groups, of either version.

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
    """What the group and every one above it leave; a container sees its own group as the root."""
    parts = [] if ".." in path else [part for part in path.split("/") if part]
    for depth in range(len(parts) + 1):
        folder = root.joinpath(*parts[:depth])
        try:
            most, taken = (int((folder / name).read_text(encoding="utf-8")) for name in (limit, used))
        except (OSError, ValueError):  # no such group here, or the limit is "max"
            continue
        yield most - taken + dict(_table(folder / "memory.stat")).get(reclaimed, 0)


def _table(file: Path) -> Iterator[tuple[str, int]]:
    """Names and numbers of a file that has one of each a line."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        name, value, *_ = [*line.split(), "", ""]
        if value.isdigit():
            yield name, int(value)
