"""tools/train.py from the command line, with one process and two: stopped, killed, resumed."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import launching
import pytest
import torch
from launching import ROOT, TIMEOUT

import openrayzer
from openrayzer.interfaces import InputError

EXPERIMENT = Path(__file__).with_name("tiny_rayzer.json")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The working directory of all commands; it holds the rooms for all tests."""
    return tmp_path_factory.mktemp("launched")


@pytest.fixture
def started(folder: Path) -> Iterator[list[subprocess.Popen]]:
    """Processes of a test. Their groups are killed afterwards."""
    processes: list[subprocess.Popen] = []
    yield processes
    for process in processes:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        if process.stdout is not None and not process.stdout.closed:
            process.communicate()


def start(started: list[subprocess.Popen], folder: Path, *arguments: str, ranks: int = 1) -> subprocess.Popen:
    started.append(launching.start(folder, EXPERIMENT, *arguments, ranks=ranks))
    return started[-1]


def finish(process: subprocess.Popen) -> tuple[int, str]:
    output, _ = process.communicate(timeout=TIMEOUT)
    return process.returncode, output


def wait_for(path: Path, process: subprocess.Popen) -> None:
    end = time.monotonic() + TIMEOUT
    while not path.exists():
        assert process.poll() is None, finish(process)
        assert time.monotonic() < end, f"{path} never came"
        time.sleep(0.05)


def losses(run: Path) -> list[float]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if line["split"] == "train"]


def same_weights(one: Path, other: Path, step: int) -> bool:
    name = f"checkpoints/step_{step:08d}/mp_rank_00_model_states.pt"
    first, second = (torch.load(run / name, weights_only=True)["module"] for run in (one, other))
    return all(torch.equal(value, second[key]) for key, value in first.items())


def test_one_process_trains_and_its_model_loads(folder: Path, started: list[subprocess.Popen]):
    code, output = finish(start(started, folder))
    assert code == 0, output
    run = folder / "runs/tiny_rayzer"
    assert len(losses(run)) == 8
    assert (run / "samples/step_00000008.png").stat().st_size > 1000
    model = openrayzer.load_model(run)
    assert not model.training
    cameras = model.estimate(torch.rand(1, 4, 3, 24, 32))
    assert cameras.c2w.shape == (1, 4, 4, 4)
    again = openrayzer.load_model(run, checkpoint="step_00000004")
    assert not all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))
    with pytest.raises(InputError, match=r"checkpoint 'step_00000005'.*step_00000004, step_00000008"):
        openrayzer.load_model(run, checkpoint="step_00000005")


def test_wrong_input_is_a_message_without_a_traceback(folder: Path, started: list[subprocess.Popen]):
    code, output = finish(start(started, folder, "--set", "train.batch_size=3", "--output", "runs/wrong"))
    assert code == 2
    assert "Traceback" not in output
    assert output.count("error: ") == 1
    assert "2 or 4 would work" in output


@pytest.mark.slow
def test_two_processes_have_the_losses_of_one_and_resume_exactly(folder: Path, started: list[subprocess.Popen]):
    fp32 = ("--set", f"deepspeed={ROOT / 'ds_configs/zero2_fp32.json'}")
    for ranks, output in ((1, "runs/one"), (2, "runs/two")):
        code, text = finish(start(started, folder, *fp32, "--output", output, ranks=ranks))
        assert code == 0, text
    assert losses(folder / "runs/one") == pytest.approx(losses(folder / "runs/two"), rel=1e-4)
    run = folder / "runs/two_again"
    process = start(started, folder, *fp32, "--output", str(run), ranks=2)
    wait_for(run / "checkpoints/step_00000004/manifest.json", process)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    code, text = finish(start(started, folder, *fp32, "--output", str(run), ranks=2))
    assert code == 0, text
    assert losses(run) == losses(folder / "runs/two")
    assert same_weights(run, folder / "runs/two", 8)


ZERO_2 = ROOT / "ds_configs/zero2_fp32.json"


@pytest.fixture
def zero_3(folder: Path) -> Path:
    """Stage 3 in float32, so that the stage changes the rounding only."""
    config = json.loads(ZERO_2.read_text())
    config["zero_optimization"]["stage"] = 3
    file = folder / "zero3_fp32.json"
    file.write_text(json.dumps(config))
    return file


@pytest.mark.slow
@pytest.mark.parametrize(("before", "after", "stage"), [(2, 1, 2), (1, 2, 2), (2, 2, 3), (1, 2, 3), (2, 1, 3)])
def test_a_run_goes_on_with_other_processes_and_another_stage(
    folder: Path, started: list[subprocess.Popen], zero_3: Path, before: int, after: int, stage: int
):
    straight, run = folder / "runs/straight", folder / f"runs/{before}_to_{after}_{stage}"
    steps = ("--set", "train.steps=8", "train.schedule.type=constant")
    if not straight.exists():
        code, text = finish(start(started, folder, *steps, f"deepspeed={ZERO_2}", "--output", str(straight)))
        assert code == 0, text
    first = ("--set", "train.steps=4", "train.schedule.type=constant", f"deepspeed={ZERO_2}")
    code, text = finish(start(started, folder, *first, "--output", str(run), ranks=before))
    assert code == 0, text
    config = zero_3 if stage == 3 else ZERO_2
    code, text = finish(start(started, folder, *steps, f"deepspeed={config}", "--output", str(run), ranks=after))
    assert code == 0, text
    assert (
        f"was written by {before} process(es) with ZeRO stage 2: divided again for {after} with stage {stage}" in text
    )
    assert ("ranks from 1 on begin with new random generators" in text) == (before < after)
    assert len(losses(run)) == 8
    assert losses(run) == pytest.approx(losses(straight), rel=1e-4)  # sums of floats in another order
    openrayzer.load_model(run)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_run_after_a_checkpoint(
    folder: Path, started: list[subprocess.Popen], number: signal.Signals, code: int
):
    run = folder / f"runs/{number.name}"
    process = start(started, folder, "--set", "train.steps=100000", "train.checkpoint_every=0", "--output", str(run))
    wait_for(run / "samples/step_00000004.png", process)
    process.send_signal(number)
    returned, output = finish(process)
    assert returned == code, output
    assert "Traceback" not in output
    assert len(list((run / "checkpoints").glob("step_*"))) == 1


@pytest.mark.slow
def test_ctrl_c_under_the_launcher_leaves_a_checkpoint_and_no_process(folder: Path, started: list[subprocess.Popen]):
    run = folder / "runs/ctrl_c"
    settings = ("--set", "train.steps=100000", "train.checkpoint_every=0")
    process = start(started, folder, *settings, "--output", str(run), ranks=2)
    wait_for(run / "samples/step_00000004.png", process)
    os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=TIMEOUT)
    wait_for_end(process.pid)
    assert (run / "checkpoints/latest").exists()


@pytest.mark.slow
def test_a_killed_rank_ends_the_run_and_the_last_checkpoint_stays(folder: Path, started: list[subprocess.Popen]):
    run = folder / "runs/killed"
    process = start(started, folder, "--set", "train.steps=100000", "--output", str(run), ranks=2)
    wait_for(run / "checkpoints/step_00000004/manifest.json", process)
    ranks = subprocess.run(
        ["ps", "-ww", "-o", "pid=,args=", "--sid", str(process.pid)], capture_output=True, text=True, check=True
    )
    victim = next(line.split()[0] for line in ranks.stdout.splitlines() if "--local_rank=1" in line)
    os.kill(int(victim), signal.SIGKILL)
    code, _ = finish(process)
    assert code != 0
    wait_for_end(process.pid)
    assert (run / "checkpoints/latest").exists()


def wait_for_end(session: int) -> None:
    end = time.monotonic() + 60
    while subprocess.run(["ps", "--sid", str(session)], capture_output=True).returncode == 0:
        assert time.monotonic() < end, "processes were left behind"
        time.sleep(0.2)
