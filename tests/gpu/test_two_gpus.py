"""Two processes with one GPU each and NCCL between them: they train, share clips, and one notices the other's end."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from gpu_suite import ROOT, TINY
from launching import clean_environment

from openrayzer.training.run import STOPPED

pytestmark = [pytest.mark.gpu, pytest.mark.usefixtures("gpu")]
TIMEOUT = 240.0
"""Seconds, longer than a rank takes to notice a lost process according to docs/clusters.md."""


@pytest.fixture(autouse=True)
def two_gpus(device: torch.device) -> None:
    """Skip the tests with fewer than two GPUs."""
    if torch.cuda.device_count() < 2:
        pytest.skip(f"needs two GPUs, and there is {torch.cuda.device_count()}")


def start(folder: Path, rank: int, port: int, *changes: str) -> subprocess.Popen[str]:
    """Start one rank of two without a launcher, because a launcher would end the other rank itself."""
    launched = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2",
                "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}  # fmt: skip
    command = [sys.executable, str(ROOT / "tools/train.py"), "--exp", str(TINY), "--output", "run", "--set"]
    quiet = ("train.sample_every=0", "train.evaluate_every=0", "train.checkpoint_every=0", "data.workers=0")
    return subprocess.Popen(
        [*command, *quiet, *changes], cwd=folder, env=clean_environment() | launched, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )  # fmt: skip


def port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def losses(folder: Path, *changes: str) -> list[float]:
    """Losses of a run of five steps, in float32."""
    folder.mkdir()
    chosen, float32 = port(), (f"deepspeed={ROOT / 'ds_configs/zero2_fp32.json'}", "train.tf32=false")
    ranks = [start(folder, rank, chosen, "train.steps=5", *float32, *changes) for rank in (0, 1)]
    try:
        output = [rank.communicate(timeout=TIMEOUT)[0] for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
    assert [rank.returncode for rank in ranks] == [0, 0], "\n".join(output)
    lines = map(json.loads, (folder / "run/metrics.jsonl").read_text().splitlines())
    return [line["loss"] for line in lines if line["split"] == "train"]


def test_two_processes_train_and_may_share_clips(tmp_path: Path, figure: Callable[[str], None]):
    four_views = "data.view_sampler.num_context=2"
    apart = losses(tmp_path / "apart", four_views)
    shared = losses(tmp_path / "shared", four_views, "train.sequence_parallel=2")
    figure(f"largest difference {max(abs(one / other - 1) for one, other in zip(apart, shared, strict=True)):.1g}")
    assert len(apart) == 5
    assert shared == pytest.approx(apart, rel=1e-3)


def test_a_rank_ends_with_exit_code_3_when_the_other_is_killed(tmp_path: Path, figure: Callable[[str], None]):
    chosen = port()
    ranks = [start(tmp_path, rank, chosen, "train.steps=100000") for rank in (0, 1)]
    try:
        written, end = tmp_path / "run/metrics.jsonl", time.monotonic() + TIMEOUT
        while not (written.exists() and len(written.read_text().splitlines()) > 3):
            assert time.monotonic() < end, "the run made no step"
            time.sleep(0.1)
        os.kill(ranks[1].pid, signal.SIGKILL)
        begin = time.monotonic()
        output, _ = ranks[0].communicate(timeout=TIMEOUT)
        figure(f"exit code {ranks[0].returncode} after {time.monotonic() - begin:.0f} s")
    finally:
        for rank in ranks:
            rank.kill()
    assert ranks[0].returncode == STOPPED, output
    assert "another process of this run has ended" in output
