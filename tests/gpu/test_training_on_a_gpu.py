"""Training on a GPU: the demo learns, each DeepSpeed file works, and a run survives killed data workers."""

import json
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from gpu_suite import ROOT, SMALL_ROOMS, TINY

pytestmark = [pytest.mark.gpu, pytest.mark.usefixtures("rooms", "gpu")]
DEEPSPEED = sorted(file.stem for file in (ROOT / "ds_configs").glob("*.json"))
TrainFile = Callable[..., int]
AUTO = 'shared.attention={"type": "auto"}'
CHANGES = (AUTO, "train.steps=3", "train.log_every=1", "train.checkpoint_every=3", "train.sample_every=0",
           "train.evaluate_every=0", "data.workers=0")  # fmt: skip


def lines(run: Path, split: str = "train") -> list[dict]:
    """The records of a run's metrics.jsonl."""
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [record for record in records if record["split"] == split]


def test_the_demo_learns_in_20_steps(train_file: TrainFile, tmp_path: Path, figure: Callable[[str], None]):
    quick = ("train.steps=20", "train.log_every=1", "train.schedule.warmup_steps=2", "train.sample_every=10")
    assert train_file(ROOT / "experiments/rayzer_demo.json", tmp_path, *SMALL_ROOMS, *quick) == 0
    losses, seconds = ([line[key] for line in lines(tmp_path)] for key in ("loss", "seconds"))
    (test,) = lines(tmp_path, "test")
    figure(f"loss {losses[0]:.4f} -> {losses[-1]:.4f}, {test['psnr']:.2f} dB, {1000 * min(seconds[1:]):.0f} ms a step")
    assert len(losses) == 20
    assert sum(losses[-5:]) < sum(losses[:5])


@pytest.fixture(scope="module")
def first_losses() -> dict[str, float]:
    """Losses of the first step by configuration, with equal weights and clips."""
    return {}


@pytest.mark.parametrize("name", DEEPSPEED)
def test_every_deepspeed_configuration_trains_logs_and_saves(
    train_file: TrainFile, tmp_path: Path, name: str, first_losses: dict[str, float], figure: Callable[[str], None]
):
    assert train_file(TINY, tmp_path, *CHANGES, f"deepspeed={ROOT / f'ds_configs/{name}.json'}") == 0
    found = lines(tmp_path)
    first_losses[name] = found[0]["loss"]
    figure(", ".join(f"{line['loss']:.5f}" for line in found) + f"; norm {found[0]['grad_norm']:.3f}")
    assert [line["step"] for line in found] == [1, 2, 3]
    assert all(torch.tensor([line["loss"], line["grad_norm"]]).isfinite().all() for line in found)
    assert [line["skipped"] for line in found] == [0, 0, 0]
    assert (tmp_path / "checkpoints/step_00000003").is_dir()
    assert first_losses[name] == pytest.approx(next(iter(first_losses.values())), rel=0.02)  # in bfloat16 and float32


def test_a_run_survives_killed_data_workers(train_file: TrainFile, tmp_path: Path, figure: Callable[[str], None]):
    """The kernel kills workers in this way when memory is full."""
    killed: list[int] = []
    stop = threading.Event()

    def kill() -> None:
        while not stop.wait(0.02) and len(killed) < 2:
            written = tmp_path / "metrics.jsonl"
            if not written.exists() or len(written.read_text().splitlines()) < 4 * (1 + len(killed)):
                continue
            for child in multiprocessing.active_children()[:1]:
                os.kill(child.pid or 0, signal.SIGKILL)
                killed.append(time.monotonic_ns())

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    try:
        code = train_file(TINY, tmp_path, *CHANGES, "train.steps=40", "train.checkpoint_every=0", "data.workers=1")
    finally:
        stop.set()
        killer.join()
    figure(f"{len(killed)} killed, exit code {code}")
    assert code == 0
    assert len(killed) == 2
    assert [line["step"] for line in lines(tmp_path)] == list(range(1, 41))
