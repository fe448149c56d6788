"""Freed memory is used again in a process that asks for it and in every worker process."""

import os
import resource
import subprocess
import sys

import pytest
import torch

from openrayzer.data.loading.numbered_batches import load_batches

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="other systems have other allocators")

FAULTS = """
import resource, sys, torch
from openrayzer.machine.freed_memory import keep_freed_memory
keep_freed_memory()
torch.set_num_threads(1)
for repetition in range(30):
    if repetition == 15:  # the size of the heap is stable from here on
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(2**24)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def test_freed_memory_is_used_again_unless_the_environment_says_otherwise():
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}

    def page_faults(**settings: str) -> int:
        run = [sys.executable, "-c", FAULTS]
        return int(subprocess.run(run, env=plain | settings, check=True, stdout=subprocess.PIPE).stdout)

    assert page_faults() < 1000
    assert page_faults(MALLOC_ARENA_MAX="4") > 10_000  # 64 MiB of new pages of 4 KiB each time


def faults_so_far(number: int) -> int:
    torch.ones(2**23)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def test_loading_processes_use_freed_memory_again(monkeypatch: pytest.MonkeyPatch):
    for name in [name for name in os.environ if name.startswith(("MALLOC_", "GLIBC_"))]:
        monkeypatch.delenv(name)
    faults = list(load_batches(faults_so_far, numbers=range(10), workers=1, prefetch=1))
    assert faults[-1] - faults[4] < 1000  # 40 000 if each time needs 32 MiB of new pages
