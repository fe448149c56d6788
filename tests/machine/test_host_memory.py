"""Free memory of the machine and of control groups of both versions, from copies of the kernel's files."""

import os
import sys
from pathlib import Path

import pytest

from openrayzer.machine.host_memory import available_bytes

MEMINFO = (
    "MemTotal:       24684084 kB\nMemFree:        21286508 kB\nMemAvailable:   1000 kB\nHugePages_Total:       0\n"
)
V1_UNLIMITED = 9223372036854771712


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/meminfo").write_text(MEMINFO)
    return tmp_path / "proc"


@pytest.fixture
def groups(tmp_path: Path) -> Path:
    (tmp_path / "groups").mkdir()
    return tmp_path / "groups"


def group(folder: Path, limit: object, used: int, reclaimed: int = 0, *, version: int = 2) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    names = ("memory.max", "memory.current") if version == 2 else ("memory.limit_in_bytes", "memory.usage_in_bytes")
    for name, value in zip(names, (limit, used), strict=True):
        (folder / name).write_text(f"{value}\n")
    inactive = "inactive_file" if version == 2 else "total_inactive_file"
    (folder / "memory.stat").write_text(f"anon 5\nactive_file 77\n{inactive} {reclaimed}\n")


def test_without_limits_the_memory_of_the_machine_counts(proc, groups):
    assert available_bytes(proc=proc, groups=groups) == 1000 * 1024
    (proc / "self/cgroup").write_text("0::/\n")
    assert available_bytes(proc=proc, groups=groups) == 1000 * 1024


def test_a_group_has_its_limit_minus_its_used_memory(proc, groups):
    (proc / "self/cgroup").write_text("0::/job/task\n")
    group(groups / "job/task", 5000, 3000, 400)
    assert available_bytes(proc=proc, groups=groups) == 2400


def test_limits_of_parent_groups_count(proc, groups):
    (proc / "self/cgroup").write_text("0::/job/task\n")
    group(groups / "job/task", "max", 3000)
    assert available_bytes(proc=proc, groups=groups) == 1000 * 1024
    group(groups / "job", 9000, 8500)
    assert available_bytes(proc=proc, groups=groups) == 500
    group(groups, 700, 600)
    assert available_bytes(proc=proc, groups=groups) == 100


def test_groups_of_version_1_count(proc, groups):
    (proc / "self/cgroup").write_text("9:name=systemd:/x\n5:cpu,memory:/job\n4:memory:/job\n1:cpu:/other\n0::/\n")
    group(groups / "memory/job", V1_UNLIMITED, 3000, version=1)
    assert available_bytes(proc=proc, groups=groups) == 1000 * 1024
    group(groups / "memory/job", 5000, 3000, 50, version=1)
    assert available_bytes(proc=proc, groups=groups) == 2050


def test_a_container_sees_its_own_group_as_the_root(proc, groups):
    for path in ("/", "/docker/of-the-host", "/../../elsewhere"):
        (proc / "self/cgroup").write_text(f"0::{path}\n")
        group(groups, 5000, 3000)
        assert available_bytes(proc=proc, groups=groups) == 2000, path


def test_a_group_above_its_limit_has_no_free_memory(proc, groups):
    (proc / "self/cgroup").write_text("0::/\n")
    group(groups, 5000, 6000)
    assert available_bytes(proc=proc, groups=groups) == 0


def test_without_the_files_of_the_kernel_the_memory_is_unknown(tmp_path):
    assert available_bytes(proc=tmp_path / "none", groups=tmp_path / "none") is None


@pytest.mark.skipif(sys.platform != "linux", reason="reads files of the Linux kernel")
def test_this_machine_has_less_free_memory_than_memory():
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    available = available_bytes()
    assert available is not None
    assert 0 < available < total
