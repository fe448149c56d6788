"""Full-size experiments on a GPU: planned and measured memory, and the time of a micro-batch."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from gpu_suite import ROOT

pytestmark = pytest.mark.gpu
SCRIPT = Path(__file__).with_name("full_size.py")
NAMES = sorted(file.stem for file in (ROOT / "experiments").glob("*.json") if "demo" not in file.stem)
CLOSE = 0.1
"""Allowed relative difference between planner and allocator; the planner leaves out temporary memory of kernels."""
NEEDED = 40 * 2**30
"""Bytes that the largest experiment needs."""
MOST_LAUNCHES = 6000
"""Most kernels, without products, of a compiled micro-batch of ``rayder_dl3dv``; one call per view took 53,099."""


def run(*arguments: str) -> dict[str, float]:
    """The last line of the script's output."""
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *arguments], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


def require_memory(gpu: torch.device) -> None:
    torch.cuda.empty_cache()
    free, _ = torch.cuda.mem_get_info(gpu)
    if free < NEEDED:
        pytest.skip(f"needs {NEEDED >> 30} GiB of free GPU memory, and there are {free >> 30}")


def test_rayder_launches_few_kernels(gpu: torch.device, figure: Callable[[str], None]):
    require_memory(gpu)
    found = run("--launches", "rayder_dl3dv")
    launches = found["kernels"] - found["products"]
    figure(f"{launches} launches and {found['products']} products")
    assert 0 < launches <= MOST_LAUNCHES


@pytest.mark.parametrize("name", NAMES)
def test_planned_memory_matches_the_allocator(gpu: torch.device, name: str, figure: Callable[[str], None]):
    require_memory(gpu)
    found = run(name)
    ratio = found["allocated"] / found["planned"]
    rate = found["flops"] / found["milliseconds"] / 1e9
    figure(
        f"allocator {found['allocated'] / 2**30:.2f} GiB, {ratio:.2f} x planner; "
        f"{found['milliseconds']:.0f} ms forward and backward of one clip, {rate:.0f} TFLOP/s"
    )
    assert abs(ratio - 1) < CLOSE
