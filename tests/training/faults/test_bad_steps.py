"""Skipped steps: jumps of the loss, log messages, dumps, and repetition from a dump."""

import json
import logging
import runpy
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import toy

import openrayzer
from openrayzer.composer import construct, load_experiment
from openrayzer.interfaces import InputError
from openrayzer.settings import BadSteps, LossTerm
from openrayzer.training.faults import bad_steps
from openrayzer.training.faults.bad_steps import WINDOW, LossWatch
from openrayzer.training.faults.replay import Replayed, replay
from openrayzer.weights.run_layout import EXPERIMENT

pytestmark = [pytest.mark.filterwarnings("ignore::FutureWarning"), pytest.mark.filterwarnings("ignore::UserWarning")]

Train = Callable[..., int]
ROOT = Path(__file__).parents[3]
TINY = Path(__file__).parents[1] / "tiny_rayzer.json"
CPU = torch.device("cpu")


def replayed(dump: Path) -> Replayed:
    """Repeat the step of a dump, like the tool."""
    losses = construct(load_experiment(dump / EXPERIMENT).plan.arguments["loss"])
    return replay(dump, model=openrayzer.load_model(dump), losses=losses, device=CPU)


def test_a_loss_jumps_if_it_exceeds_the_median_by_the_factor():
    watch = LossWatch(factor=3.0, grace_steps=4)
    assert [watch.jumps(loss) for loss in (1.0, 9.0, 1.1, 0.9)] == [False] * 4  # not enough is known yet
    assert watch.jumps(3.2)
    assert not watch.jumps(3.0)
    assert not watch.jumps(float("nan"))  # its gradient is not finite either


def test_a_loss_that_has_jumped_for_good_is_the_usual_one():
    watch = LossWatch(factor=2.0, grace_steps=1)
    for _ in range(WINDOW):
        watch.jumps(1.0)
    decisions = [watch.jumps(10.0) for _ in range(WINDOW)]
    assert decisions[0]
    assert not decisions[-1]
    assert sum(decisions) <= BadSteps().max_in_a_row  # or every run would stop where a term of its loss begins


def test_without_a_factor_nothing_jumps():
    watch = LossWatch(factor=0.0, grace_steps=0)
    assert not any(watch.jumps(loss) for loss in (1.0, 1e9))


def test_remembered_losses_are_restored():
    first, second = LossWatch(factor=2.0, grace_steps=2), LossWatch(factor=2.0, grace_steps=2)
    for loss in (1.0, 1.0, 1.0):
        first.jumps(loss)
    second.load(first.state())
    assert second.jumps(2.5)


def test_a_factor_that_would_skip_everything_is_refused():
    with pytest.raises(InputError, match="loss_factor must be above 1, or 0"):
        BadSteps(loss_factor=0.5)


@pytest.mark.parametrize("deepspeed", ["zero1", "zero2", "zero2_bf16", "zero3"])
def test_a_jump_of_the_loss_is_skipped_with_weights_and_schedule_as_they_were(
    train: Train, tmp_path: Path, deepspeed: str, caplog: pytest.LogCaptureFixture
):
    jump = (LossTerm(loss=toy.ToyLoss(), weight=100.0, start_step=3),)
    rule = BadSteps(norm_factor=0.0, loss_factor=5.0, grace_steps=2, max_in_a_row=2, dump="never")
    code = train(tmp_path, steps=9, more_loss=jump, bad_steps=rule, deepspeed=f"ds_configs/{deepspeed}.json")
    assert code == 3
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["skipped"] for line in lines] == [0, 0, 0, 1, 2]
    assert lines[3]["lr"] == lines[4]["lr"]
    assert "step 4 skipped: loss" in caplog.text
    assert "above 5 x the median of the steps before; its scenes: scene_" in caplog.text
    assert not (tmp_path / "bad_steps").exists()


def test_all_scenes_of_the_step_are_named(train: Train, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.WARNING):
        train(tmp_path, steps=1, bad_calls=(0,))
    line = next(line for line in caplog.text.splitlines() if "step 1 skipped: the gradient is not finite" in line)
    assert line.count("scene_") == 4  # two micro-batches of two


@pytest.mark.parametrize(("when", "kept"), [("never", []), ("stop", ["00000004"]), ("first", ["00000001", "00000004"])])
def test_the_setting_decides_which_bad_steps_are_written(train: Train, tmp_path: Path, when: str, kept: list[str]):
    rule = BadSteps(grace_steps=0, norm_factor=0.0, max_in_a_row=2, dump=when)
    assert train(tmp_path, steps=9, bad_steps=rule, bad_calls=(0, *range(4, 99))) == 3
    folder = tmp_path / "bad_steps"
    assert sorted(path.name for path in folder.glob("*")) == [f"step_{name}" for name in kept]
    if kept:
        facts = json.loads((folder / f"step_{kept[-1]}/step.json").read_text())
        reason = "the gradient is not finite"
        assert facts == {"step": 3, "world_size": 1, "reason": reason, "loss": None, "grad_norm": None}


def test_a_dump_that_cannot_be_written_does_not_hide_why_training_stopped(train: Train, tmp_path: Path, caplog):
    (tmp_path / "bad_steps").write_text("no folder")
    rule = BadSteps(grace_steps=0, max_in_a_row=1)
    assert train(tmp_path, steps=9, bad_steps=rule, bad_calls=(0,)) == 3
    assert "cannot be written" in caplog.text
    assert "1 steps in a row were skipped, the last because of: the gradient is not finite" in caplog.text


def test_a_dump_is_not_overwritten_and_their_number_is_limited(train: Train, tmp_path: Path, caplog):
    rule = BadSteps(grace_steps=0, max_in_a_row=1)
    for step in (1, 1, 2):
        shutil.rmtree(tmp_path / "checkpoints", ignore_errors=True)
        assert train(tmp_path, steps=9, bad_steps=rule, bad_calls=(2 * step - 2,)) == 3
        (tmp_path / "bad_steps/step_00000001/mark").touch()
    assert "a dump of this step exists" in caplog.text
    assert (tmp_path / "bad_steps/step_00000001/mark").exists()
    for number in range(bad_steps.MOST):
        (tmp_path / f"bad_steps/step_0000010{number}").mkdir()
    shutil.rmtree(tmp_path / "checkpoints")
    assert train(tmp_path, steps=9, bad_steps=rule, bad_calls=(4,)) == 3
    assert "dumps already; remove those that you have looked at" in caplog.text
    assert not (tmp_path / "bad_steps/step_00000003").exists()


@pytest.mark.usefixtures("rooms")
def test_a_repeated_step_agrees_with_the_record(train_file: Train, tmp_path: Path, monkeypatch, capsys):
    fp32 = f"deepspeed={ROOT / 'ds_configs/zero2_fp32.json'}"
    rule = 'train.bad_steps={"norm_factor": 1, "grace_steps": 1, "max_in_a_row": 1}'
    assert train_file(TINY, tmp_path, fp32, rule, "train.clip_norm=1e-6", "data.workers=0",
                      "train.focal_detached_steps=5") == 3  # fmt: skip
    dump = tmp_path / "bad_steps/step_00000002"
    step = replayed(dump)
    assert step.same
    assert step.step == 2
    assert step.norm == pytest.approx(step.recorded_norm, rel=1e-4)
    assert [one.loss for one in step.micro_batches] == pytest.approx(
        [one.recorded for one in step.micro_batches], rel=1e-6
    )
    assert not any(one.first_activation or one.first_gradient for one in step.micro_batches)
    assert all(len(one.frames) == len(one.scenes) == 2 for one in step.micro_batches)
    tool = runpy.run_path(str(ROOT / "tools/replay_step.py"))
    monkeypatch.setattr(sys, "argv", ["replay_step.py", str(dump), "--device", "cpu"])
    assert tool["main"]() == 0
    said = capsys.readouterr().out
    assert "step 2 was skipped: gradient norm" in said
    assert "the step agrees with the record" in said
    facts = json.loads((dump / "step.json").read_text())
    (dump / "step.json").write_text(json.dumps(facts | {"grad_norm": 2 * facts["grad_norm"]}))
    assert not replayed(dump).same


@pytest.mark.usefixtures("rooms")
def test_the_module_where_a_run_diverged_is_named(train_file: Train, tmp_path: Path):
    fast = ("train.optimizer.learning_rate=1e20", "train.bad_steps.max_in_a_row=1", "data.workers=0")
    assert train_file(TINY, tmp_path, *fast) == 3
    (dump,) = (tmp_path / "bad_steps").iterdir()
    step = replayed(dump)
    assert step.same
    assert step.reason == "the gradient is not finite"
    modules = dict(openrayzer.load_model(tmp_path).named_modules())
    assert all(one.first_activation in modules for one in step.micro_batches)


def test_a_folder_without_a_dump_is_a_message(tmp_path: Path):
    with pytest.raises(InputError, match=r"is no dump of a step: step.json cannot be read"):
        replay(tmp_path, model=toy.ToyModel(), losses=(), device=CPU)
    assert bad_steps.FACTS == "step.json"
