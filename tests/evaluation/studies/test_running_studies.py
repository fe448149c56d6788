"""Running of studies with a program that pretends to train and to evaluate."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from openrayzer.cli.commands import evaluate_command
from openrayzer.composer import load_experiment
from openrayzer.evaluation.studies.study import Place, check_study, run_study
from openrayzer.interfaces import InputError

ROOT = Path(__file__).parents[3]
TINY = ROOT / "tests/training/tiny_rayzer.json"
PRETENDED = (sys.executable, str(Path(__file__).with_name("pretended_openrayzer.py")))
STUDY = {
    "experiment": str(TINY),
    "variants": {"slow": ["train.optimizer.learning_rate=1"], "fast": ["train.optimizer.learning_rate=9"]},
    "seeds": [0, 1, 2],
    "budget": {"steps": 4},
    "metrics": ["psnr", "sanity.shuffled_order"],
}
FILES = ("metrics.json", "study.md", "study.html")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a study, which is also the current one."""
    (tmp_path / "study.json").write_text(json.dumps(STUDY))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def go(output: str = "results", *, parallel: int = 1, submitit: dict[str, str] | None = None):
    checked = check_study(Path("study.json"), evaluate_command.parser(), evaluate_command.request_of)
    lines: list[str] = []
    place = Place(Path(output), PRETENDED, parallel, submitit or {})
    results, _ = run_study(checked, place, told=lines.append)
    return results, lines


def written(output: str = "results") -> list[str]:
    return [Path(output, name).read_text().replace(f"{output}/", "OUT/") for name in FILES]


def calls() -> list[str]:
    return Path("calls").read_text().splitlines()


@pytest.mark.usefixtures("folder")
def test_a_study_gives_means_differences_and_their_origin():
    results, lines = go()
    means = results.means["held_out", "joint", "psnr"]
    assert means["slow"].mean == pytest.approx(20 + 1.5 + 1 + 0.1)
    difference = results.differences["held_out", "joint", "psnr"]["slow", "fast"]
    assert difference.estimate.mean == pytest.approx(8.0)
    assert difference.corrected < 0.01
    assert results.means["held_out", "joint", "sanity.shuffled_order"]["fast"].mean == 0.5
    assert lines[0] == "1/6 slow, seed 0: complete"
    page = Path("results/study.html").read_text()
    for part in ("fast minus slow", "better", "results/runs/fast/seed_2", "<svg"):
        assert part in page
    assert len(json.loads(Path("results/metrics.json").read_text())["runs"]) == 6


@pytest.mark.usefixtures("folder")
def test_reported_numbers_have_means_and_no_comparisons():
    reported = {"camera_gain": 2.0, "transfer.auc@20": 0.75}
    Path("study.json").write_text(json.dumps(STUDY | {"reported": list(reported)}))
    results, _ = go()
    for name, value in reported.items():
        assert results.means["held_out", "joint", name]["slow"].mean == pytest.approx(value)
    assert {metric for _, _, metric in results.differences} == {"psnr", "sanity.shuffled_order"}
    assert "PSNR lost when cameras are exchanged, dB" in Path("results/study.md").read_text()


@pytest.mark.usefixtures("folder")
def test_scaling_forecasts_a_variant_with_a_larger_budget():
    variants = {f"rate {rate}": [f"train.optimizer.learning_rate={rate}"] for rate in (1, 2, 3, 4, 9)}
    scaling = {"sizes": ["train.optimizer.learning_rate"], "forecast": {"rate 9": 2.5}}
    Path("study.json").write_text(
        json.dumps(STUDY | {"variants": variants, "scaling": scaling, "metrics": ["psnr"], "seeds": [0, 1]})
    )
    results, _ = go()
    assert results.steps == {name: 10 if name == "rate 9" else 4 for name in variants}
    assert results.scaling.points == 4
    (forecast,) = results.scaling.forecasts
    assert forecast.measured == 29.5  # 20 + 9 and the mean of the seeds
    assert not any(results.differences.values())
    page = Path("results/study.html").read_text()
    assert "measured minus predicted" in page
    assert "Planned comparisons" not in page
    assert json.loads(Path("results/metrics.json").read_text())["scaling"]["forecasts"][0]["variant"] == "rate 9"


@pytest.mark.usefixtures("folder")
def test_a_second_start_repeats_nothing_and_writes_the_same_files():
    go()
    first, before = written(), calls()
    go(parallel=2)
    assert (written(), calls()) == (first, before)
    Path("results/runs/fast/seed_1_held_out/metrics.json").unlink()
    go()
    assert written() == first
    assert calls()[len(before) :] == ["evaluate results/runs/fast/seed_1_held_out"]


@pytest.mark.usefixtures("folder")
def test_a_run_that_fails_does_not_stop_the_others_and_is_tried_again():
    Path("broken").touch()
    results, lines = go()
    assert lines[1].startswith("2/6 fast, seed 0: training ended with exit code 1: error: the loss is not finite")
    assert [each.run.variant for each in results.runs if each.problem] == ["fast"] * 3
    assert not results.differences["held_out", "joint", "psnr"]
    assert "the loss is not finite" in Path("results/study.html").read_text()
    Path("broken").unlink()
    again, _ = go()
    assert not any(each.problem for each in again.runs)
    whole, _ = go("other", parallel=3)
    assert written() == written("other")
    assert whole.differences.keys() == again.differences.keys()


@pytest.mark.usefixtures("folder")
def test_a_folder_of_other_settings_is_refused():
    run = Path("results/runs/slow/seed_0")
    run.mkdir(parents=True)
    before = load_experiment(TINY, overrides=["train.batch_size=76", "train.optimizer.learning_rate=1"]).resolved
    (run / "experiment.json").write_text(json.dumps(before))
    with pytest.raises(InputError, match=r"seed_0 was trained with other settings .*train.batch_size: 76 -> "):
        go()


@pytest.mark.usefixtures("folder")
def test_a_budget_in_seconds_measures_the_speed_first():
    Path("study.json").write_text(json.dumps(STUDY | {"budget": {"seconds": 30}, "seeds": [0]}))
    with pytest.raises(InputError, match="the speed of fast, slow could not be measured"):
        go()  # the pretended log has one record only
    assert calls() == ["train results/speed/slow", "train results/speed/fast"]


def test_jobs_of_submitit_do_the_same(folder: Path):
    pytest.importorskip("submitit")
    go()
    go("jobs", submitit={"cluster": "local", "timeout_min": "2"})
    assert written("jobs") == written()
    assert list((folder / "jobs/jobs").glob("*submitted.pkl"))


@pytest.mark.slow
@pytest.mark.usefixtures("folder", "slurm")
def test_jobs_of_slurm_do_the_same():
    pytest.importorskip("submitit")
    go()
    go("jobs", submitit={"timeout_min": "2", "slurm_partition": "one"})
    assert written("jobs") == written()
    assert Path("jobs/jobs/1_submission.sh").is_file()  # numbered by SLURM


@pytest.mark.usefixtures("folder")
def test_an_unknown_parameter_of_submitit_is_a_message():
    pytest.importorskip("submitit")
    with pytest.raises(InputError, match="--submitit: "):
        go(submitit={"cluster": "local", "gpus": "many"})


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGTERM, 143), (signal.SIGKILL, -signal.SIGKILL)])
def test_no_training_outlives_the_study(folder: Path, sent: signal.Signals, code: int):
    (folder / "slow").touch()
    words = ["study", "study.json", "--output", "results", "--launch", *PRETENDED]
    study = subprocess.Popen(
        [sys.executable, "-m", "openrayzer.cli", *words],
        stderr=subprocess.DEVNULL,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    deadline = time.monotonic() + 60
    while not (folder / "started").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    study.send_signal(sent)
    assert study.wait(30) == code
    while _alive(folder) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _alive(folder)
    assert len(calls()) == 1


@pytest.mark.slow
@pytest.mark.usefixtures("folder")
def test_a_study_of_real_trainings_that_is_killed_twenty_times_ends_with_the_same_numbers():
    study = STUDY | {
        "seeds": [0, 1], "metrics": ["psnr", "rpa@15"], "evaluations": {"held_out": ["--baselines", "none"]},
        "changes": ["train.checkpoint_every=1", "train.evaluate_every=2"],
    }  # fmt: skip
    Path("study.json").write_text(json.dumps(study))
    command = [sys.executable, "-m", "openrayzer.cli", "study", "study.json", "--output"]
    subprocess.run([*command, "whole"], check=True, capture_output=True)
    generator = random.Random(0)
    for _ in range(20):
        killed = subprocess.Popen([*command, "killed"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        with suppress(subprocess.TimeoutExpired):
            killed.wait(generator.uniform(2, 15))
        killed.kill()
        killed.wait()
    subprocess.run([*command, "killed"], check=True, capture_output=True)
    whole, after = (json.loads(Path(name, "metrics.json").read_text()) for name in ("whole", "killed"))
    assert after["means"] == whole["means"]
    assert after["differences"] == whole["differences"]


def _alive(folder: Path) -> bool:
    """Whether a pretended training still runs in ``folder``."""
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if entry.joinpath("cwd").resolve() == folder and b"pretended" in entry.joinpath("cmdline").read_bytes():
                return True
        except OSError:
            continue
    return False
