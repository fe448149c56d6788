"""Memory of all processes of a training on a large source, and seconds until its first step."""

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from openrayzer.benchmarks.start_up import memory

_REPOSITORY = Path(__file__).parents[2]
_LOOK_EVERY = 0.1  # seconds
_STEPS = 20
_CHANGES = (
    "shared.width=96", "data.image_size=[16, 16]", "data.workers=2", "data.test=[]",
    "data.view_sampler.min_frame_distance=5", "data.view_sampler.max_frame_distance=7", f"train.steps={_STEPS}",
    "train.log_every=1", "train.sample_every=0", "train.evaluate_every=0", "train.checkpoint_every=0",
)  # fmt: skip


@dataclass(frozen=True)
class TrainingNeeds:
    """Measurements of one rank with two data workers.

    Attributes:
        first_step_seconds: seconds from the command to the first step in metrics.jsonl, with all imports.
        rank_bytes: largest resident memory of the rank.
        worker_bytes: largest resident memory of a data worker; most of it is shared with the rank.
        own_bytes: largest sum of the proportional set sizes (PSS) of all processes, which counts shared memory once.
    """

    first_step_seconds: float
    rank_bytes: int
    worker_bytes: int
    own_bytes: int


def train_on(root: Path, run: Path) -> TrainingNeeds:
    """Train some steps of ``experiments/rayzer_latent_demo.json``, at half its width and 16 x 16 pixels.

    Args:
        root: folder that contains chunks in ``train``.
        run: the run folder; it must not exist.

    Raises:
        RuntimeError: the training failed; the message contains its output.
    """
    train = json.dumps([{"dataset": {"type": "chunks", "root": str(root)}}])
    command = [sys.executable, "tools/train.py", "--exp", "experiments/rayzer_latent_demo.json", "--output", str(run)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    begin, first, rank, worker, own = time.perf_counter(), 0.0, 0, 0, 0
    with (run.with_suffix(".log")).open("w+b") as log:
        process = subprocess.Popen(
            [*command, "--set", f"data.train={train}", *_CHANGES],
            cwd=_REPOSITORY, env=environment, stdout=log, stderr=subprocess.STDOUT,
        )  # fmt: skip
        while process.poll() is None:
            sizes = [_sizes(number) for number in (process.pid, *_children(process.pid))]
            rank, worker = max(rank, sizes[0][0]), max(worker, *(size for size, _ in sizes[1:]), 0)
            own = max(own, sum(share for _, share in sizes))
            if not first and (run / "metrics.jsonl").exists() and (run / "metrics.jsonl").stat().st_size:
                first = time.perf_counter() - begin
            time.sleep(_LOOK_EVERY)
        log.seek(0)
        if process.returncode:
            raise RuntimeError(f"training on {root} failed:\n{log.read().decode(errors='replace')}")
    return TrainingNeeds(first or time.perf_counter() - begin, rank, worker, own)


def _children(process: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()]
    except OSError:
        return []


def _sizes(process: int) -> tuple[int, int]:
    """Resident and proportional memory of a process; zero if it has ended."""
    try:
        return memory(process, "Rss"), memory(process, "Pss")
    except OSError:
        return 0, 0
