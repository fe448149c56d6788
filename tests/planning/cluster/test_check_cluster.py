"""tools/check_cluster.py on one and two ranks, and each of its checks with a fault."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from openrayzer.interfaces import InputError
from openrayzer.machine.distributed import Process
from openrayzer.planning.cluster import machines, shared_folder
from openrayzer.planning.cluster.findings import Finding, table

ROOT = Path(__file__).parents[3]
TOOL, TINY = ROOT / "tools/check_cluster.py", ROOT / "tests/training/tiny_rayzer.json"
ALONE = Process(rank=0, local_rank=0, world_size=1, device=torch.device("cpu"))


class Two(Process):
    """Rank 0 of two; the other rank answers ``other``."""

    other: Any = None

    def gather(self, value: Any) -> list[Any]:
        return [value, value if self.other is None else self.other]

    def barrier(self) -> None: ...

    def by_first(self, function: Any) -> Any:
        return function()


def two(other: Any) -> Two:
    process = Two(rank=0, local_rank=0, world_size=2, device=torch.device("cpu"))
    object.__setattr__(process, "other", other)
    return process


def test_a_good_folder_passes_and_stays_as_it_was(tmp_path: Path):
    findings = shared_folder.check_folder(ALONE, tmp_path)
    assert {finding.what for finding in findings} == {"shared folder", "rename", "replace", "writing", "disk"}
    assert "FAILS" not in {finding.verdict for finding in findings}
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_not_shared_fails_without_further_checks(tmp_path: Path):
    findings = shared_folder.check_folder(two(False), tmp_path)
    assert [finding.what for finding in findings] == ["shared folder", "disk"]
    assert findings[0].verdict == "FAILS"
    assert "rank(s) [1] do not see" in findings[0].found


def test_too_little_space_for_the_checkpoints_fails(tmp_path: Path):
    finding = shared_folder.check_folder(ALONE, tmp_path, needed=1e18)[-1]
    assert (finding.what, finding.verdict) == ("disk", "FAILS")


def test_a_folder_that_cannot_be_written_is_an_input_error(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        shared_folder.check_folder(ALONE, tmp_path / "file")


def test_different_versions_and_devices_fail():
    mine = {"python": "3.11.7", "torch": "1.0"}
    finding = machines.check_versions(two(mine))
    assert finding.verdict == "FAILS"
    assert "torch: 2" in finding.found
    assert "1.0 on rank(s) 1" in finding.found
    ranks, devices = machines.check_ranks(two(("elsewhere", 0, "NVIDIA H100, 80 GiB")))
    assert (ranks.verdict, devices.verdict) == ("ok", "FAILS")


def test_different_clocks_give_a_warning():
    assert machines.check_clocks(ALONE).verdict == "ok"
    finding = machines.check_clocks(two(0.0))
    assert finding.verdict == "warning"
    assert "time server" in finding.found


def test_failures_come_last_in_the_table():
    text = table([Finding("a", "FAILS", "broken"), Finding("long name", "ok", "fine"), Finding("b", "warning", "slow")])
    assert [line.split()[0] for line in text.splitlines()] == ["long", "b", "a"]


def run(command: list[str], cwd: Path, *arguments: str) -> subprocess.CompletedProcess:
    environment = {name: value for name, value in os.environ.items() if name not in ("RANK", "WORLD_SIZE")}
    return subprocess.run(
        [*command, str(TOOL), *arguments], cwd=cwd, env=environment | {"OMP_NUM_THREADS": "1"}, capture_output=True,
        text=True, check=False, timeout=300,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["python", "torchrun", "deepspeed"])
def test_the_tool_passes_on_this_machine(tmp_path: Path, launcher: str):
    commands = {
        "python": [sys.executable],
        "torchrun": [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"],
        "deepspeed": [sys.executable, "-c", "from deepspeed.launcher.runner import main; main()", "--num_accelerators",
                      "2", "--master_port", "29733"],
    }  # fmt: skip
    done = run(commands[launcher], tmp_path, "--output", "runs", "--exp", str(TINY))
    assert done.returncode == 0, done.stdout + done.stderr
    for what in ("ranks", "devices", "versions", "clocks", "memory", "all-reduce", "rename", "disk", "data"):
        assert f"\n{what} " in "\n" + done.stdout
    assert done.stdout.count("clips a second") == 1
    if launcher != "python":
        assert "gloo" in done.stdout


@pytest.mark.slow
def test_the_exit_code_is_3_for_a_failed_check_and_2_for_wrong_input(tmp_path: Path):
    missing = run([sys.executable], tmp_path, "--exp", str(TINY), "--data", "nowhere")
    assert missing.returncode == 3, missing.stderr
    assert "FAILS" in missing.stdout.splitlines()[-1]
    assert "nowhere" in missing.stdout.splitlines()[-1]
    wrong = run([sys.executable], tmp_path, "--exp", "no_such.json")
    assert (wrong.returncode, "Traceback" in wrong.stderr) == (2, False)
