"""Whole runs of the toy in this process: their files, resuming, stopping."""

import json
import logging
import multiprocessing
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from openrayzer.evaluation.comparison.sides import read_side
from openrayzer.interfaces import InputError
from openrayzer.machine.distributed import Process
from openrayzer.settings import BadSteps
from openrayzer.training import run
from openrayzer.training.logs.meter import Meter
from openrayzer.types import Views

# What DeepSpeed and torch say to each other, not to us.
pytestmark = [pytest.mark.filterwarnings("ignore::FutureWarning"), pytest.mark.filterwarnings("ignore::UserWarning")]

Train = Callable[..., int]


def records(folder: Path, split: str = "train") -> list[dict]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if line["split"] == split]


def weights(folder: Path, step: int) -> dict[str, torch.Tensor]:
    file = folder / f"checkpoints/step_{step:08d}/mp_rank_00_model_states.pt"
    return torch.load(file, weights_only=True)["module"]


def timeless(lines: list[dict]) -> list[dict]:
    return [{key: value for key, value in line.items() if key not in TIMES} for line in lines]


TIMES = ("seconds", "views_per_second", "data_wait")


def test_a_run_writes_all_files_of_the_run_folder_and_its_loss_falls(train: Train, tmp_path: Path):
    code = train(tmp_path, steps=30, batch_size=8, log_every=5, sample_every=30, checkpoint_every=10,
                 evaluate_every=15, keep_checkpoints=2, test=True)  # fmt: skip
    assert code == 0
    found = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")}
    assert {"experiment.json", "train.log", "samples/step_00000030.png", "evaluation/index.json"} <= found
    assert {name for name in found if name.startswith("checkpoints/step_") and name.count("/") == 1} == {
        "checkpoints/step_00000020",
        "checkpoints/step_00000030",
    }
    lines = records(tmp_path)
    assert [line["step"] for line in lines] == [5, 10, 15, 20, 25, 30]
    assert lines[-1]["loss"] < 0.7 * lines[0]["loss"]
    assert set(TIMES) | {"toyloss", "psnr", "lr", "grad_norm", "skipped", "problems"} <= set(lines[0])
    assert [line["toy_difficulty"] for line in lines] == [40, 90, 140, 190, 240, 290]  # of the step just made
    facts = json.loads((tmp_path / "experiment.json").read_text())["run"]
    assert facts["world_size"] == 1
    assert facts["versions"]["torch"] == torch.__version__.split("+")[0]


def test_evaluation_counts_every_scene_once_beside_the_baselines(train: Train, tmp_path: Path):
    train(tmp_path, steps=2, evaluate_every=1, test=True)
    first, second = records(tmp_path, "test")
    assert (first["expected"], first["evaluated"], first["skipped_scenes"]) == (5, 5, 0)
    for name in ("psnr_nearest_context", "psnr_mean_context"):
        assert first[name] == second[name]  # the same views each time
    assert first["psnr"] != second["psnr"]
    assert first["psnr"] != first["psnr_exchanged_cameras"]
    details = json.loads((tmp_path / "evaluation/metrics.json").read_text())
    (placement,) = details["placements"]
    assert details["summary"][placement]["psnr"]["mean"] == pytest.approx(second["psnr"])
    assert details["summary"][f"{placement}_exchanged_cameras"]["psnr"]["mean"] == pytest.approx(
        second["psnr_exchanged_cameras"]
    )
    side = read_side(tmp_path)
    assert (side.step, side.placements, len(side.values("nearest_context", "psnr"))) == (2, (placement,), 5)
    assert len((tmp_path / "evaluation/per_view.csv").read_text().splitlines()) == 1 + sum(
        len(scene["target"]) * len(scene["metrics"]) for scene in details["per_scene"].values()
    )
    assert len(json.loads((tmp_path / "evaluation/index.json").read_text())) == 5


@pytest.mark.parametrize("deepspeed", ["zero2", "zero2_bf16"])
def test_a_resumed_run_is_bit_identical_to_one_that_was_never_stopped(train: Train, tmp_path: Path, deepspeed: str):
    setup = {"deepspeed": f"ds_configs/{deepspeed}.json", "checkpoint_every": 3, "log_every": 2}
    train(tmp_path / "straight", **setup)
    train(tmp_path / "stopped", **setup, keep_checkpoints=2)
    for name in ("step_00000006",):  # as if it had died after step 3, in the middle of a line
        (tmp_path / "stopped/checkpoints" / name).rename(tmp_path / "gone")
    with (tmp_path / "stopped/metrics.jsonl").open("a") as file:
        file.write('{"step": 6, "split"')
    torch.manual_seed(99)
    train(tmp_path / "stopped", **setup, evaluate_every=1, test=True)
    straight, resumed = tmp_path / "straight", tmp_path / "stopped"
    assert timeless(records(straight)) == timeless(records(resumed))
    for name, value in weights(straight, 6).items():
        assert torch.equal(value, weights(resumed, 6)[name]), name
    states = "checkpoints/step_00000006/zero_pp_rank_0_mp_rank_00_optim_states.pt"
    names = [states] if (straight / states).exists() else [states.replace("zero_pp", "bf16_zero_pp")]
    assert (straight / names[0]).read_bytes() == (resumed / names[0]).read_bytes()


def test_workers_and_accumulation_do_not_change_what_is_learned(train: Train, tmp_path: Path):
    train(tmp_path / "plain", steps=3, accumulation=1, deepspeed="ds_configs/zero2_fp32.json")
    train(tmp_path / "split", steps=3, accumulation=4, workers=2, deepspeed="ds_configs/zero2_fp32.json")
    for name, value in weights(tmp_path / "plain", 3).items():
        torch.testing.assert_close(value, weights(tmp_path / "split", 3)[name], rtol=1e-5, atol=1e-6)


def test_a_longer_run_goes_on_with_the_learning_rate_of_the_new_length(train: Train, tmp_path: Path):
    train(tmp_path, steps=3)
    train(tmp_path, steps=6)
    train(tmp_path / "straight", steps=6)
    assert records(tmp_path)[3]["lr"] == records(tmp_path / "straight")[3]["lr"]


def test_a_finished_run_writes_nothing_more(train: Train, tmp_path: Path):
    train(tmp_path, steps=2)
    before = (tmp_path / "metrics.jsonl").read_bytes()
    assert train(tmp_path, steps=2) == 0
    assert (tmp_path / "metrics.jsonl").read_bytes() == before


def test_a_nan_skips_the_step_and_freezes_weights_and_schedule(train: Train, tmp_path: Path):
    # Calls 2 and 3 of the loss are the micro-batches of the second step.
    train(tmp_path, steps=3, checkpoint_every=1, bad_calls=(3,))
    lines = records(tmp_path)
    assert [line["skipped"] for line in lines] == [0, 1, 1]
    assert "loss" not in lines[1]
    assert lines[1]["lr"] == lines[2]["lr"]
    for name, value in weights(tmp_path, 1).items():
        assert torch.equal(value, weights(tmp_path, 2)[name])
        assert not torch.equal(value, weights(tmp_path, 3)[name]) or not value.any()


@pytest.mark.parametrize("deepspeed", ["zero1", "zero2", "zero2_bf16", "zero2_fp32", "zero3"])
def test_too_large_a_norm_is_skipped_after_the_grace_steps(train: Train, tmp_path: Path, deepspeed: str):
    rule = BadSteps(norm_factor=1.0, grace_steps=2)
    train(tmp_path, steps=4, bad_steps=rule, clip_norm=1e-3, deepspeed=f"ds_configs/{deepspeed}.json")
    assert [line["skipped"] for line in records(tmp_path)] == [0, 0, 1, 2]


def test_too_many_skipped_steps_stop_the_run_with_code_3_and_a_checkpoint(
    train: Train, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    rule = BadSteps(grace_steps=0, max_in_a_row=2)
    with caplog.at_level(logging.ERROR):
        assert train(tmp_path, steps=9, bad_steps=rule, bad_calls=tuple(range(2, 99))) == 3
    assert "2 steps in a row were skipped" in caplog.text
    assert "lower the learning rate" in caplog.text
    assert (tmp_path / "checkpoints/latest").read_text() == "step_00000003"


@pytest.mark.parametrize("deepspeed", ["zero1", "zero2_offload", "zero2_fp32", "zero3"])
def test_every_configuration_trains_evaluates_and_resumes(train: Train, tmp_path: Path, deepspeed: str):
    setup = {"deepspeed": f"ds_configs/{deepspeed}.json", "test": True, "sample_every": 2}
    train(tmp_path, steps=2, **setup)
    train(tmp_path, steps=3, **setup)
    train(tmp_path / "reference", steps=3, test=True)
    assert records(tmp_path)[0]["loss"] == pytest.approx(records(tmp_path / "reference")[0]["loss"], rel=0.02)


def test_an_existing_run_is_not_overwritten(train: Train, tmp_path: Path):
    train(tmp_path, steps=1)
    with pytest.raises(InputError, match="already holds a run, which is not overwritten: go on with --resume"):
        train(tmp_path, steps=1, resume="none")


def test_another_experiment_is_refused_with_what_differs(train: Train, tmp_path: Path):
    train(tmp_path, steps=1)
    with pytest.raises(InputError, match=r"another experiment:\n  train.batch_size: 4 -> 8\n"):
        train(tmp_path, steps=2, batch_size=8)


def test_going_back_to_an_earlier_checkpoint_keeps_the_later_ones_aside(train: Train, tmp_path: Path):
    train(tmp_path, steps=4, checkpoint_every=2)
    train(tmp_path, steps=3, resume=str(tmp_path / "checkpoints/step_00000002"))
    names = {path.name for path in (tmp_path / "checkpoints").glob("*step_*")}
    assert names == {"step_00000002", "step_00000003", "abandoned_step_00000004"}


def test_a_folder_that_cannot_be_written_is_a_message(train: Train, tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        train(tmp_path / "file" / "run")


def test_a_run_that_failed_before_its_first_step_can_be_replaced(train: Train, tmp_path: Path, monkeypatch):
    def fail(*arguments: object, **more: object) -> None:
        raise InputError("no step was made")

    with monkeypatch.context() as patch:
        patch.setattr(run, "train_loop", fail)
        with pytest.raises(InputError, match="no step was made"):
            train(tmp_path, steps=1)
    assert (tmp_path / "experiment.json").exists()
    assert train(tmp_path, steps=1, batch_size=8) == 0


def test_pictures_and_evaluation_files_that_cannot_be_written_are_warnings(train: Train, tmp_path: Path, caplog):
    for name in ("samples", "evaluation"):
        (tmp_path / name).write_text("no folder")
    assert train(tmp_path, steps=1, sample_every=1, test=True) == 0
    assert "metrics.json: cannot be written" in caplog.text
    assert "step_00000001.png: cannot be written" in caplog.text


def test_time_between_steps_is_not_training(monkeypatch):
    now = iter([0.0, 1.0, 1.0, 101.0, 102.0, 103.0])
    monkeypatch.setattr("time.perf_counter", lambda: next(now))
    meter = Meter()
    meter.start()
    with meter.paused():
        pass
    meter.tick(views=4, waited=0.0)
    line = meter.line(Process(0, 0, 1, torch.device("cpu")))
    assert (line["seconds"], line["views_per_second"]) == (1.0, 4.0)


def loading_processes() -> list[str]:
    return [child.name for child in multiprocessing.active_children() if child.name.startswith("Process")]


@pytest.mark.usefixtures("rooms")
def test_an_error_leaves_no_loading_process(train_file: Callable[..., int], tmp_path: Path, monkeypatch):
    """The traceback of an exception holds local variables. It must not keep loading processes alive at exit."""

    def lost(training: object, batches: Iterator[Views], **rest: object) -> int:
        next(batches)
        assert loading_processes()
        raise RuntimeError("lost")

    monkeypatch.setattr(run, "train_loop", lost)
    with pytest.raises(RuntimeError, match="lost") as held:
        train_file(Path(__file__).parent / "tiny_rayzer.json", tmp_path, "data.workers=1", "train.steps=2")
    assert held.value.__traceback__ is not None
    assert not loading_processes()
