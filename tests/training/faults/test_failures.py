"""Faults injected into runs of two ranks: what the user sees, and what is lost."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from kills import announced, losses, same_checkpoint
from launching import clean_environment
from ranks import EXPERIMENT, ROOT, Run, wait_for

from openrayzer.weights.checkpoints.manifest import checksum, newest_good

pytestmark = pytest.mark.slow
Start = Callable[..., Run]
FAULTY = Path(__file__).with_name("faulty.py")
LONG = "train.steps=100000"


def faulty(folder: Path, **changes: object) -> Path:
    """The tiny experiment with components that fail."""
    file = folder / "faulty.json"
    file.write_text(json.dumps({"extends": str(EXPERIMENT), "plugins": [str(FAULTY)], **changes}))
    return file


def wait_for_step(run: Run, output: Path, step: int) -> None:
    """Wait until ``latest`` names a checkpoint of at least that step."""
    wait_for(lambda: (announced(output) or 0) >= step or not run.living(), what=f"step {step}")
    assert run.living(), run.output()


# signals


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_to_one_rank_ends_both_with_a_checkpoint_and_the_run_goes_on(
    start: Start, folder: Path, number: signal.Signals
):
    name = f"signal_{number.name}"
    run = start(name, LONG, "train.checkpoint_every=0")
    wait_for(lambda: (folder / name / "metrics.jsonl").exists(), what="a step")
    run.send(number, 1)
    assert run.wait() == (128 + number, 128 + number), run.output()
    assert "Traceback" not in run.output()
    step = announced(folder / name)
    assert step
    again = start(name, f"train.steps={step + 1}", "train.checkpoint_every=0")
    assert again.wait() == (0, 0), again.output()
    assert f"step_{step:08d}, step {step} of {step + 1}" in again.output()


def test_a_second_ctrl_c_ends_at_once_even_inside_a_collective(start: Start, folder: Path):
    loss = [{"loss": {"type": "stuck", "rank": 1, "call": 9}}]
    run = start("twice", LONG, exp=faulty(folder, loss=loss))
    wait_for_step(run, folder / "twice", 2)
    time.sleep(4)  # rank 0 waits for rank 1 by now
    run.send(signal.SIGINT, 0)
    time.sleep(2.5)
    begin = time.monotonic()
    run.send(signal.SIGINT, 0)
    wait_for(lambda: 0 in run.codes or not run.living() or 0 not in run.living(), seconds=30)
    assert time.monotonic() - begin < 25
    assert run.codes[0] == 130, run.output()
    assert "second Ctrl-C" in run.output()


# ranks


@pytest.mark.parametrize("victim", [0, 1])
def test_when_one_rank_is_killed_the_other_logs_it_and_ends(start: Start, folder: Path, victim: int):
    name = f"killed_{victim}"
    run = start(name, LONG)
    wait_for_step(run, folder / name, 2)
    begin = time.monotonic()
    run.send(signal.SIGKILL, victim)
    codes = run.wait(120)
    assert time.monotonic() - begin < 60
    assert codes[victim] == -signal.SIGKILL
    assert codes[1 - victim] == 3, run.output()
    assert "another process of this run has ended" in run.output()
    assert "Traceback" not in run.output()
    assert newest_good(folder / name / "checkpoints") is not None


def test_a_rank_that_waits_for_a_killed_one_ends_within_seconds(start: Start, folder: Path):
    loss = [{"loss": {"type": "stuck", "rank": 0, "call": 8}}]  # as NCCL, which tells nobody that a rank is gone
    run = start("waits", LONG, exp=faulty(folder, loss=loss))
    wait_for_step(run, folder / "waits", 2)
    time.sleep(4)  # rank 0 stands by now
    begin = time.monotonic()
    run.send(signal.SIGKILL, 1)
    assert run.wait(120) == (3, -signal.SIGKILL), run.output()
    assert time.monotonic() - begin < 40  # train.watchdog_minutes is 10
    assert "another process of this run has ended or does not answer (rank 1" in run.output()
    assert "Traceback" not in run.output()


def test_a_rank_that_hangs_ends_the_run_with_the_stacks_of_all(start: Start, folder: Path):
    loss = [{"loss": {"type": "stuck", "rank": 1, "call": 8}}]
    run = start("hang", LONG, "train.watchdog_minutes=0.1", exp=faulty(folder, loss=loss))
    assert run.wait(180) == (3, 3), run.output()
    stacks = [(folder / f"hang/hang/rank_{rank}.txt").read_text() for rank in (0, 1)]
    assert "faulty.py" in stacks[1]
    assert "faulty.py" not in stacks[0]
    assert run.output().count("the run hangs") == 1
    assert "rank(s) 0-1 in step after" in run.output()
    assert announced(folder / "hang") in (2, 4)  # that of step 4 is announced in step 5, which never ends


def test_a_rank_that_is_slow_now_and_then_is_no_hang(start: Start, folder: Path):
    loss = [{"loss": {"type": "stuck", "rank": 1, "call": 8, "seconds": 4}}]
    run = start("slow", "train.steps=12", "train.watchdog_minutes=0.3", exp=faulty(folder, loss=loss))
    assert run.wait() == (0, 0), run.output()
    assert not (folder / "slow/hang").exists()


# disks


def test_a_full_disk_is_a_message_and_older_checkpoints_stay_good(folder: Path):
    """The run folder is on a file system of a few megabytes, in a mount namespace of its own."""
    mount, kept = folder / "small", folder / "small_kept"
    mount.mkdir()
    script = (
        f"mount -t tmpfs -o size=4m none {mount} && {sys.executable} {ROOT}/tools/train.py --exp {EXPERIMENT} "
        f"--output {mount}/run --set train.keep_checkpoints=1000 train.steps=400; code=$?; "
        f"cp -r {mount}/run {kept}; exit $code"
    )
    trial = subprocess.run(["unshare", "-m", "mount", "-t", "tmpfs", "none", str(mount)], check=False)
    if trial.returncode:
        pytest.skip("needs the right to mount a file system")
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script], cwd=folder, env=clean_environment(), capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert "free some space" in done.stderr
    assert "Traceback" not in done.stderr
    good = newest_good(kept / "checkpoints")
    assert good is not None
    assert good.name == (kept / "checkpoints/latest").read_text()


@pytest.mark.parametrize("rank", [0, 1])
def test_a_checkpoint_that_is_lost_after_training_went_on_ends_the_run_and_the_one_before_is_taken(
    start: Start, folder: Path, rank: int
):
    sign, name = folder / f"dying_{rank}", f"disk_{rank}"
    sign.touch()
    disk = {"type": "dying_disk", "rank": rank, "checkpoint": "step_00000006", "seconds": 2.0, "sign": str(sign)}
    exp = faulty(folder, loss=[{"loss": disk}])
    changes = ("train.checkpoint_every=3", "data.workers=0")
    run = start(name, LONG, *changes, exp=exp)
    assert run.wait() == (2, 2), run.output()
    assert "checkpoint step_00000006 could not be written" in run.output()
    assert "Input/output error" in run.output()
    assert "start the same command again" in run.output()
    assert "Traceback" not in run.output()
    assert len(losses(folder / name)) > 6  # training had gone on
    checkpoints = folder / name / "checkpoints"
    assert sorted(path.name for path in checkpoints.glob("step_*")) == ["step_00000003"]
    assert (checkpoints / "latest").read_text() == "step_00000003"
    sign.unlink()
    again = start(name, "train.steps=8", *changes, exp=exp)
    assert again.wait() == (0, 0), again.output()
    assert "step_00000003, step 3 of 8" in again.output()
    assert announced(folder / name) == 8


@pytest.mark.parametrize("name", ["zero_pp_rank_1_mp_rank_00_optim_states.pt", "rank_00001.pt", "ema_rank_00001.pt"])
def test_a_file_that_one_rank_cannot_read_is_an_error_of_all_ranks(start: Start, folder: Path, name: str):
    run = folder / "unreadable"
    changes = ("train.ema_decay=0.9", "train.checkpoint_every=0")
    if not run.exists():
        first = start("unreadable", "train.steps=2", *changes)
        assert first.wait() == (0, 0), first.output()
    file = run / "checkpoints/step_00000002" / name
    good = file.read_bytes()
    replace(file, b"no file of torch")
    again = start("unreadable", "train.steps=4", *changes)
    codes = again.wait()
    replace(file, good)
    assert codes == (2, 2), again.output()
    assert "cannot be read as a checkpoint: it is not a file of tensors" in again.output()
    assert "Traceback" not in again.output()


def replace(file: Path, content: bytes) -> None:
    """Replace the content of a file and its checksum in the manifest, like an attacker."""
    file.write_bytes(content)
    manifest = json.loads((file.parent / "manifest.json").read_text())
    manifest["files"][file.name] = [len(content), checksum(file)]
    (file.parent / "manifest.json").write_text(json.dumps(manifest))


# data


def test_a_killed_loading_process_loses_nothing(start: Start, folder: Path):
    straight = start("workers", "train.steps=30", "data.workers=1")
    assert straight.wait() == (0, 0), straight.output()
    run = start("worker_killed", "train.steps=30", "data.workers=1")
    wait_for_step(run, folder / "worker_killed", 4)
    children = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(run.pids[1])], capture_output=True, text=True, check=True
    ).stdout.split()
    assert children
    for child in children:
        os.kill(int(child), signal.SIGKILL)
    assert run.wait() == (0, 0), run.output()
    assert "its batches are loaded again" in run.output()
    last = "checkpoints/step_00000030"
    assert same_checkpoint(folder / "workers" / last, folder / "worker_killed" / last)
    assert losses(folder / "workers") == losses(folder / "worker_killed")


def test_a_chunk_that_vanishes_is_named_and_others_take_its_place(start: Start, folder: Path):
    for number in range(3):
        write_chunk(folder / f"chunks/train/{number:06d}.torch", scenes=3)
    data = {"train": [{"dataset": {"type": "chunks", "root": "chunks"}}]}
    run = start("vanished", "train.steps=60", exp=faulty(folder, data=data))
    wait_for_step(run, folder / "vanished", 2)
    (folder / "chunks/train/000001.torch").unlink()
    assert run.wait() == (0, 0), run.output()
    assert "000001.torch" in run.output()
    assert "the next scene was used instead" in run.output()
    lines = [json.loads(line) for line in (folder / "vanished/metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["problems"] > 0


def write_chunk(path: Path, *, scenes: int) -> None:
    """Scenes of six frames of noise, in pixelSplat's format."""
    path.parent.mkdir(parents=True, exist_ok=True)
    camera = torch.tensor([1, 1, 0.5, 0.5, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0], dtype=torch.float32)
    content = []
    for scene in range(scenes):
        noise = np.random.default_rng(scene).integers(0, 255, (6, 24, 32, 3), np.uint8)
        images = [torch.from_numpy(cv2.imencode(".jpg", frame)[1].reshape(-1).copy()) for frame in noise]
        cameras = camera.expand(6, 18).clone()
        key = f"{path.stem}_{scene}"
        content.append({"key": key, "url": "", "timestamps": torch.arange(6), "cameras": cameras, "images": images})
    torch.save(content, path)


# loggers


def test_a_logger_without_a_server_is_left_out_and_nothing_is_lost(start: Start, folder: Path):
    run = start("logger", "train.steps=10", exp=faulty(folder, logging=[{"type": "unreachable"}]))
    assert run.wait() == (0, 0), run.output()
    assert run.output().count("logger Unreachable failed in record and is left out") == 1
    assert len((folder / "logger/metrics.jsonl").read_text().splitlines()) == 10
