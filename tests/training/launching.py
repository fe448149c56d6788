"""tools/train.py in processes of its own, as a launcher starts it."""

import os
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).parents[2]
TOOL = str(ROOT / "tools/train.py")
TIMEOUT = 300
"""Longest time of a run in seconds; a shared machine can be slow."""


def command(ranks: int) -> list[str]:
    """The command that starts tools/train.py with a number of ranks on the CPU; append its arguments."""
    if ranks == 1:
        return [sys.executable, TOOL]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    launcher = "from deepspeed.launcher.runner import main; main()"
    return [sys.executable, "-c", launcher, "--num_accelerators", str(ranks), "--master_port", str(port), TOOL]


def clean_environment() -> dict[str, str]:
    """The environment without the variables of a launcher, with one thread per process."""
    launched = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    kept = {name: value for name, value in os.environ.items() if name not in launched}
    return kept | {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}


def start(folder: Path, experiment: Path, *arguments: str, ranks: int) -> subprocess.Popen:
    """A run in ``folder``. Its processes form a group of their own, so that a test can end all of them."""
    return subprocess.Popen(
        [*command(ranks), "--exp", str(experiment), *arguments], cwd=folder, env=clean_environment(),
        start_new_session=True, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def launch(folder: Path, experiment: Path, output: str, *settings: str, ranks: int) -> str:
    """Run to the end, which must be good; returns the output."""
    process = start(folder, experiment, "--output", output, "--set", *settings, ranks=ranks)
    try:
        said, _ = process.communicate(timeout=TIMEOUT)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 0, said
    return said
