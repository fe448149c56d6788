"""A run on two machines, each a launcher on loopback: it trains, loses a machine, goes on."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from kills import announced, losses
from launching import clean_environment
from ranks import EXPERIMENT, ROOT, TIMEOUT, free_port, wait_for

pytestmark = pytest.mark.slow
LAUNCHER = "from deepspeed.launcher.runner import main; main()"


class Nodes:
    """Two launchers, one for each machine of a hostfile, each in its own session."""

    def __init__(self, folder: Path, output: Path, *changes: str) -> None:
        (folder / "hostfile").write_text("node1 slots=1\nnode2 slots=1\n")
        port = str(free_port())
        self.logs = [output.with_name(f"{output.name}_node_{node}.log") for node in (0, 1)]
        self.launchers = []
        for node, log in enumerate(self.logs):
            command = [
                sys.executable, "-c", LAUNCHER, "--hostfile", str(folder / "hostfile"), "--no_ssh", "--node_rank",
                str(node), "--master_addr", "127.0.0.1", "--master_port", port, str(ROOT / "tools/train.py"),
                "--exp", str(EXPERIMENT), "--output", str(output), "--set",
                f"deepspeed={ROOT / 'ds_configs/zero2_fp32.json'}", *changes,
            ]  # fmt: skip
            with log.open("a") as stream:
                self.launchers.append(
                    subprocess.Popen(
                        command, cwd=folder, env=clean_environment(), start_new_session=True, stdout=stream,
                        stderr=subprocess.STDOUT,
                    )
                )  # fmt: skip

    def wait(self) -> list[int]:
        """The exit codes of both launchers."""
        return [launcher.wait(timeout=TIMEOUT) for launcher in self.launchers]

    def end(self, node: int) -> None:
        """Kill everything on a machine at once, like a power failure."""
        with suppress(ProcessLookupError):
            os.killpg(self.launchers[node].pid, signal.SIGKILL)
        self.launchers[node].wait()

    def said(self) -> str:
        """The output of both launchers."""
        return "\n".join(log.read_text() for log in self.logs)


def test_a_run_on_two_nodes_loses_one_and_goes_on_to_the_same_end(tmp_path: Path):
    straight, run = tmp_path / "straight", tmp_path / "run"
    steps = "train.steps=30"
    nodes = Nodes(tmp_path, straight, steps)
    try:
        assert nodes.wait() == [0, 0], nodes.said()
        assert "2 process(es) on cpu" in nodes.said()
        nodes = Nodes(tmp_path, run, steps)
        wait_for(lambda: (announced(run) or 0) >= 4, what="a checkpoint")
        nodes.end(1)
        begin = time.monotonic()
        assert nodes.launchers[0].wait(timeout=TIMEOUT) == 3, nodes.said()
        assert time.monotonic() - begin < 90
        assert "another process of this run has ended" in nodes.said()
        nodes = Nodes(tmp_path, run, steps)
        assert nodes.wait() == [0, 0], nodes.said()
        assert "going on from" in nodes.said()
    finally:
        for node in (0, 1):
            nodes.end(node)
    assert losses(run) == losses(straight)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_the_group_of_the_launcher_leaves_a_checkpoint_and_no_process(
    tmp_path: Path, number: signal.Signals
):
    run, log = tmp_path / "run", tmp_path / "log"
    command = [
        sys.executable, "-c", LAUNCHER, "--num_accelerators", "2", "--master_port", str(free_port()),
        str(ROOT / "tools/train.py"), "--exp", str(EXPERIMENT), "--output", str(run), "--set", "train.steps=100000",
        "train.checkpoint_every=0",
    ]  # fmt: skip
    with log.open("w") as stream:
        launcher = subprocess.Popen(
            command, cwd=tmp_path, env=clean_environment(), start_new_session=True, stdout=stream,
            stderr=subprocess.STDOUT,
        )  # fmt: skip
    try:
        wait_for(lambda: (run / "metrics.jsonl").exists() or launcher.poll() is not None, what="a step")
        os.killpg(launcher.pid, number)
        assert launcher.wait(timeout=TIMEOUT) != 0
        wait_for(lambda: subprocess.run(["ps", "--sid", str(launcher.pid)], capture_output=True).returncode != 0)
        assert announced(run), log.read_text()
    finally:
        with suppress(ProcessLookupError):
            os.killpg(launcher.pid, signal.SIGKILL)
        launcher.wait()
