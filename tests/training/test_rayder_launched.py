"""RayDer under ZeRO-2 on two ranks: every weight is used three times a step, with and without recomputed blocks.

DeepSpeed's issues 627, 988 and 2103: "parameter has already been reduced", where a weight is used twice and reentrant
checkpointing fires its hook for every use.
"""

import json
import os
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXPERIMENT = Path(__file__).with_name("tiny_rayder.json")
TOOL = str(ROOT / "tools/train.py")
PATIENCE = 300  # seconds; a shared machine can be slow


def launch(folder: Path, name: str, ranks: int, *settings: str, config: str) -> list[dict]:
    """The records of a run in processes of its own."""
    command = [sys.executable]
    if ranks > 1:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = str(probe.getsockname()[1])
        launcher = "from deepspeed.launcher.runner import main; main()"
        command += ["-c", launcher, "--num_accelerators", str(ranks), "--master_port", port]
    environment = {key: value for key, value in os.environ.items() if key not in ("RANK", "LOCAL_RANK", "WORLD_SIZE")}
    process = subprocess.Popen(
        [*command, TOOL, "--exp", str(EXPERIMENT), "--output", name,
         "--set", f"deepspeed={ROOT / 'ds_configs' / config}", *settings],
        cwd=folder, env=environment | {"OMP_NUM_THREADS": "1"}, start_new_session=True, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    try:
        output, _ = process.communicate(timeout=PATIENCE)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 0, output
    lines = [json.loads(line) for line in (folder / name / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if line["split"] == "train"]


@pytest.mark.slow
def test_two_ranks_learn_what_one_does_with_and_without_recomputed_blocks(tmp_path: Path):
    runs = {
        (ranks, every): launch(
            tmp_path, f"{ranks}_{every}", ranks, f"model.activation_checkpointing={every}", config="zero2_fp32.json"
        )
        for ranks, every in ((1, 0), (2, 0), (2, 1))
    }
    losses = {key: [line["loss"] for line in lines] for key, lines in runs.items()}
    norms = {key: [line["grad_norm"] for line in lines] for key, lines in runs.items()}
    assert len(losses[1, 0]) == 6
    assert losses[1, 0][-1] < losses[1, 0][0]
    for key in ((2, 0), (2, 1)):
        assert losses[key] == pytest.approx(losses[1, 0], rel=1e-4)
        assert norms[key] == pytest.approx(norms[1, 0], rel=1e-3)
        assert not any(line["skipped"] for line in runs[key])


@pytest.mark.slow
@pytest.mark.parametrize("config", ["zero2.json", "zero2_bf16.json"])
def test_two_ranks_train_in_bfloat16_with_dropped_states(tmp_path: Path, config: str):
    settings = ("model.activation_checkpointing=1", "model.state_dropout=0.5", "model.gains=projection")
    lines = launch(tmp_path, "half", 2, *settings, config=config)
    assert len(lines) == 6
    assert lines[-1]["loss"] < lines[0]["loss"]
    assert not any(line["skipped"] for line in lines)
