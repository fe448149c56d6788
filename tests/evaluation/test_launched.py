"""tools/evaluate.py from the command line, alone and with both launchers."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOOL = str(ROOT / "tools/evaluate.py")
TIMEOUT = 300  # seconds, for a slow shared machine


def launched(*command: str) -> subprocess.CompletedProcess:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        environment.pop(name, None)
    return subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, env=environment, timeout=TIMEOUT, check=False
    )


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def test_wrong_input_is_one_line_without_a_traceback(rayzer: Path, tmp_path: Path):
    done = launched(TOOL, "--run", str(rayzer), "--output", str(tmp_path / "out"), "--protocol", "contextonly")
    assert done.returncode == 2
    assert done.stderr.startswith("error: no protocol or placement named 'contextonly'; did you mean 'context_only'")
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_launchers_change_no_number(rayzer: Path, tmp_path: Path):
    torchrun = ("-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", free_port(), "--", TOOL)
    deepspeed = ("-c", "from deepspeed.launcher.runner import main; main()", "--num_accelerators", "2")
    commands = {"alone": (TOOL,), "torchrun": torchrun, "deepspeed": (*deepspeed, "--master_port", free_port(), TOOL)}
    tables = {}
    for name, command in commands.items():
        options = ("--run", str(rayzer), "--views", "1", "3", "--sanity", "--transfer")
        done = launched(*command, *options, "--output", str(tmp_path / name))
        assert done.returncode == 0, done.stdout + done.stderr
        assert "3 expected, 3 evaluated, 0 skipped" in done.stdout
        metrics = json.loads((tmp_path / name / "metrics.json").read_text())
        assert metrics["settings"]["world_size"] == (1 if name == "alone" else 2)
        assert (tmp_path / name / "report.html").stat().st_size > 10_000
        del metrics["settings"]["world_size"], metrics["seconds"]
        tables[name] = metrics
    assert tables["torchrun"] == tables["alone"]
    assert tables["deepspeed"] == tables["alone"]
