"""Checks of all machines of a run: ranks, devices, versions, clocks and memory."""

import os
import platform
import socket
import time
from collections import Counter
from collections.abc import Hashable, Sequence

import torch

from openrayzer.machine.distributed import Process
from openrayzer.planning.cluster.findings import Finding
from openrayzer.planning.cluster.installation import package_version

PACKAGES = ("openrayzer", "torch", "deepspeed", "numpy")
MAX_SKEW = 1.0
"""Seconds that clocks may differ. Beyond this, log lines of several machines cannot be sorted by time."""


def check_ranks(process: Process) -> list[Finding]:
    """Whether all machines have the same number of ranks and the same device."""
    places = process.gather((socket.gethostname(), process.local_rank, _device(process)))
    hosts = Counter(host for host, _, _ in places)
    machines = ", ".join(f"{host}: {count}" for host, count in sorted(hosts.items()))
    uneven = len(set(hosts.values())) > 1
    devices = Counter(device for _, _, device in places)
    twice = [place for place, count in Counter(place[:2] for place in places).items() if count > 1]
    findings = [
        Finding("ranks", "warning" if uneven else "ok", f"{process.world_size} ({machines}){' -- uneven' * uneven}"),
        Finding("devices", "ok" if len(devices) == 1 else "FAILS", _counted(devices)),
    ]
    if twice:
        findings.append(Finding("local ranks", "FAILS", f"two processes are {twice[0][0]}'s number {twice[0][1]}"))
    return findings


def check_versions(process: Process) -> Finding:
    """Whether all ranks have the same versions of the software."""
    mine = {"python": platform.python_version()} | {name: package_version(name) for name in PACKAGES}
    if process.device.type == "cuda":
        mine["nccl"] = ".".join(map(str, torch.cuda.nccl.version()))
    everywhere = process.gather(mine)
    differing = sorted(name for name in mine if len({versions.get(name) for versions in everywhere}) > 1)
    if not differing:
        return Finding("versions", "ok", ", ".join(f"{name} {value}" for name, value in mine.items()))
    what = "; ".join(f"{name}: {_by_rank([v.get(name) for v in everywhere])}" for name in differing)
    return Finding("versions", "FAILS", f"{what}; install the same versions on all machines")


def check_clocks(process: Process) -> Finding:
    """The largest difference between clocks, as precisely as a barrier allows."""
    differences = []
    for _ in range(5):
        process.barrier()
        times = process.gather(time.time())
        differences.append(max(times) - min(times))
    skew = min(differences)
    advice = "" if skew <= MAX_SKEW else "; synchronise all machines with one time server"
    return Finding("clocks", "ok" if skew <= MAX_SKEW else "warning", f"{skew * 1000:.0f} ms apart at most{advice}")


def check_memory(process: Process) -> Finding:
    """Free memory of the machines, and of /dev/shm, through which data workers pass their clips."""
    pages, size = os.sysconf("SC_AVPHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    shared = os.statvfs("/dev/shm")
    free = process.gather((pages * size / 2**30, shared.f_bavail * shared.f_frsize / 2**30))
    least, least_shared = (min(values) for values in zip(*free, strict=True))
    found = f"{least:.1f} GiB free, {least_shared:.1f} GiB in /dev/shm, on the machine with the least"
    if least_shared < 1:
        return Finding("memory", "warning", f"{found}; data workers need it: start the container with --shm-size=16g")
    return Finding("memory", "ok", found)


def _device(process: Process) -> str:
    if process.device.type == "cpu":
        return "cpu"
    properties = torch.cuda.get_device_properties(process.device)
    return f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB"


def _counted(counts: Counter[str]) -> str:
    return "; ".join(f"{count} x {name}" for name, count in counts.most_common())


def _by_rank(values: Sequence[Hashable]) -> str:
    ranks: dict[Hashable, list[int]] = {}
    for rank, value in enumerate(values):
        ranks.setdefault(value, []).append(rank)
    return ", ".join(f"{value} on rank(s) {', '.join(map(str, numbers))}" for value, numbers in ranks.items())
