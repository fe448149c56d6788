"""openrayzer train --slurm: the script, refusals, and a training that is interrupted and starts again by itself."""

import os
import re
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from kills import announced, losses
from launching import clean_environment
from ranks import EXPERIMENT, ROOT, TIMEOUT, wait_for

from openrayzer.cli import COMMANDS
from openrayzer.interfaces import InputError

pytest.importorskip("submitit")
STEPS = "train.steps=40"
FLOAT32 = f"deepspeed={ROOT / 'ds_configs/zero2_fp32.json'}"


def train(*words: str) -> int:
    return COMMANDS["train"].main(["--exp", str(EXPERIMENT), *words])


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SUBMITIT_PREEMPT_SIGNAL", "USR1")
    return tmp_path


def test_the_script_starts_a_task_for_each_gpu_and_asks_for_a_signal_and_a_requeue(capsys):
    assert train("--slurm", "dry", "partition=gpu", "nodes=2", "gpus_per_node=1", "hours=24", "account=me") == 0
    script = capsys.readouterr().out
    for option in (
        "partition=gpu", "nodes=2", "gpus-per-node=1", "ntasks-per-node=1", "time=1440", "account=me", "requeue",
        "signal=USR1@300",
    ):  # fmt: skip
        assert f"#SBATCH --{option}\n" in script
    assert re.search(r"\nsrun .*--cpus-per-task=\d+ .*submitit.core._submit .*/runs/tiny.slurm\n", script)
    assert subprocess.run(["bash", "-n"], input=script, text=True, check=False).returncode == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["partition"], "takes KEY=VALUE and dry, got 'partition'"),
        (["nodes=0"], "nodes must be 1 or more, got 0"),
        (["hours=soon"], "hours must be above 0, got 'soon'"),
        (["hours=inf"], "hours must be above 0, got 'inf'"),
        (["cluster=lcoal"], "cluster must be slurm or local, got 'lcoal'"),
        (["nodes=1", "colour=red"], r"Unavailable parameter\(s\): \['colour'\]; known are partition"),
        (["nodes=4", "gpus_per_node=8"], r"train.batch_size \d+ cannot be split evenly over 32 process"),
        (["cluster=local", "nodes=2"], "nodes must be 1, got 2"),
    ],
)
def test_wrong_values_are_refused_before_anything_is_submitted(folder: Path, words: list[str], message: str):
    with pytest.raises(InputError, match=message):
        train("--slurm", *words)
    assert not list(folder.iterdir())


def test_a_machine_without_slurm_is_told(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(InputError, match="needs sbatch, which is not on this machine; --slurm dry prints the script"):
        train("--slurm", "nodes=1")


def start(output: str, *words: str, log: Path) -> subprocess.Popen:
    command = [sys.executable, str(ROOT / "tools/train.py"), "--exp", str(EXPERIMENT), "--output", output, *words]
    environment = clean_environment() | {"PYTHONPATH": str(ROOT)}
    with log.open("w") as stream:
        return subprocess.Popen(command, env=environment, stdout=stream, stderr=stream, start_new_session=True)


def wait(process: subprocess.Popen, log: Path) -> str:
    """The output of a command that must end well."""
    try:
        assert process.wait(timeout=2 * TIMEOUT) == 0, log.read_text()
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    return log.read_text()


@pytest.mark.slow
def test_an_interrupted_job_starts_again_and_ends_like_an_undisturbed_run(folder: Path):
    changes = ("--set", FLOAT32, STEPS)
    log = folder / "log"
    two = ("--slurm", "cluster=local", "tasks_per_node=2", "hours=1")
    wait(start("straight", *two, *changes, log=log), log)
    process = start("run", *two, "--resume", "none", *changes, log=log)
    wait_for(lambda: (announced(folder / "run") or 0) >= 4, what="a checkpoint")
    controller = re.search(r"job (\d+): 2 ranks", log.read_text())[1]
    tasks = Path(f"/proc/{controller}/task/{controller}/children").read_text().split()
    os.kill(int(tasks[-1]), signal.SIGUSR1)  # one rank is enough
    os.kill(int(tasks[0]), signal.SIGUSR1)
    output = wait(process, log)
    assert "SIGUSR1: finishing this step, then a checkpoint" in output
    assert "Requeued job" in output
    assert "going on from" in output
    assert losses(folder / "run") == losses(folder / "straight")


@pytest.mark.slow
@pytest.mark.usefixtures("slurm")
def test_slurm_requeues_a_training_before_its_time_limit_and_starts_ranks_by_srun(folder: Path):
    changes = ("--set", FLOAT32, STEPS)
    log = folder / "log"
    environment = clean_environment() | {"PYTHONPATH": str(ROOT)}
    subprocess.run(
        ["srun", "--ntasks=2", sys.executable, str(ROOT / "tools/train.py"), "--exp", str(EXPERIMENT), "--output",
         "straight", *changes],
        env=environment, check=True, timeout=2 * TIMEOUT,
    )  # fmt: skip
    process = start("run", "--slurm", "tasks_per_node=2", "gpus_per_node=0", "cpus_per_task=1", "hours=1", *changes,
                    log=log)  # fmt: skip
    wait_for(lambda: (announced(folder / "run") or 0) >= 4, what="a checkpoint")
    job = re.search(r"job (\d+): 2 ranks", log.read_text())[1]
    subprocess.run(["scancel", "--signal=USR1", f"{job}.0"], check=True)
    output = wait(process, log)
    assert "Requeued job" in output
    assert "going on from" in output
    assert losses(folder / "run") == losses(folder / "straight")
