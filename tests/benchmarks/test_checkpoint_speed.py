"""The benchmark of checkpoints, started from its command line."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "openrayzer.benchmarks.checkpoint_speed", "--exp", "tests/training/tiny_rayzer.json"]


@pytest.mark.slow
def test_weights_and_optimizer_are_written_and_the_folder_is_removed(tmp_path: Path):
    folder = tmp_path / "new"
    command = [*COMMAND, "--folder", str(folder), "--saves", "2"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert (
        16 * result["weights"] <= result["bytes"] < 17 * result["weights"]
    )  # two copies of the weights and two averages
    assert 0 < result["training_waits_seconds"] < result["until_announced_seconds"]
    assert not folder.exists()


@pytest.mark.slow
def test_an_existing_folder_is_refused_and_stays(tmp_path: Path):
    done = subprocess.run([*COMMAND, "--folder", str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "exists; choose a new one" in done.stderr
    assert tmp_path.exists()
