"""The best checkpoint stays beside the newest ones and is found by name."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from openrayzer.composer import load_experiment
from openrayzer.interfaces import InputError
from openrayzer.settings import EVALUATED
from openrayzer.training import run_outputs
from openrayzer.training.checkpointing.best_checkpoint import BestRule
from openrayzer.weights.finding import find_weights

pytestmark = [pytest.mark.filterwarnings("ignore::FutureWarning"), pytest.mark.filterwarnings("ignore::UserWarning")]

Train = Callable[..., int]


@pytest.fixture
def measure(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[int, float]], None]:
    """Replace the evaluation by one with given numbers."""

    def give(psnr: dict[int, float]) -> None:
        def evaluate(engine, clips, **run):
            return {"step": engine.steps, "split": "test", "psnr": psnr[engine.steps], "evaluated": 5}

        monkeypatch.setattr(run_outputs, "evaluate", evaluate)

    return give


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "checkpoints").glob("step_*"))


@pytest.mark.parametrize(("mode", "best"), [("max", "step_00000002"), ("min", "step_00000001")])
def test_the_best_stays_beside_the_newest(train: Train, tmp_path: Path, measure, mode: str, best: str):
    measure({1: 10.0, 2: 15.0, 3: 12.0, 4: 15.0, 5: float("nan"), 6: 11.0})
    train(tmp_path, steps=6, test=True, evaluate_every=1, checkpoint_every=1, keep_checkpoints=2,
          best_metric="psnr", best_mode=mode)  # fmt: skip
    assert names(tmp_path) == [best, "step_00000005", "step_00000006"]
    assert find_weights(tmp_path, checkpoint="best").name == best
    assert find_weights(tmp_path).name == "step_00000006"


def test_a_new_best_checkpoint_is_saved_at_once_and_outlives_a_resume(train: Train, tmp_path: Path, measure):
    measure({1: 10.0, 2: 12.0, 3: 11.0, 4: 11.0})
    setup = {"test": True, "evaluate_every": 1, "keep_checkpoints": 1, "best_metric": "psnr"}
    train(tmp_path, steps=3, **setup)
    assert names(tmp_path) == ["step_00000002", "step_00000003"]
    train(tmp_path, steps=4, **setup)
    assert names(tmp_path) == ["step_00000002", "step_00000004"]


def test_a_misspelt_metric_is_refused_before_anything_starts():
    with pytest.raises(
        InputError, match=r"train: best_metric 'psrn' is not measured; the evaluation gives: psnr, psnr_"
    ):
        load_experiment((Path(__file__).parents[1] / "tiny_rayzer.json"), overrides=["train.best_metric=psrn"]).build()


@pytest.mark.parametrize("metric", ["psnr_exchanged_cameras", "psnr_shuffled_cameras"])
def test_every_metric_of_the_evaluation_can_select_the_best(train: Train, tmp_path: Path, metric: str):
    train(tmp_path, steps=1, test=True, best_metric=metric)  # the second name is from older experiments
    record = json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[-1])
    assert {key for key, value in record.items() if isinstance(value, float)} == set(EVALUATED)
    assert (tmp_path / "checkpoints/best").read_text() == "step_00000001"


def test_a_metric_that_the_clips_do_not_give_is_refused_with_a_list(train: Train, tmp_path: Path, measure):
    measure({1: 10.0})
    with pytest.raises(InputError, match=r"'psnr_exchanged_cameras' is not measured; the evaluation gives: psnr$"):
        train(tmp_path, steps=1, test=True, best_metric="psnr_exchanged_cameras")


def test_without_held_out_clips_there_is_no_best():
    import toy

    with pytest.raises(InputError, match=r"needs held-out clips to measure: give data.test"):
        toy.experiment(best_metric="psnr")


def test_without_a_best_one_the_message_says_how_to_get_it(train: Train, tmp_path: Path):
    train(tmp_path, steps=1)
    with pytest.raises(InputError, match=r"no best checkpoint; a run keeps one if train.best_metric is set"):
        find_weights(tmp_path, checkpoint="best")


def test_a_checkpoint_without_metrics_is_never_the_best(tmp_path: Path):
    best = BestRule("psnr", "max")
    assert best.among({tmp_path / "a": {}, tmp_path / "b": {"metrics": {"psnr": None}}}) is None
    assert best.improves({"psnr": 1.0}, [{}])
    assert not best.improves({"psnr": float("nan")}, [])


def test_a_checkpoint_of_an_older_run_has_the_old_name_of_its_metric(tmp_path: Path):
    best, old = BestRule("psnr_exchanged_cameras", "max"), {"metrics": {"psnr_shuffled_cameras": 15.0}}
    assert best.among({tmp_path / "a": old}) == tmp_path / "a"
    assert not best.improves({"psnr_exchanged_cameras": 14.0}, [old])
    assert best.improves({"psnr_exchanged_cameras": 16.0}, [old])


def test_a_run_begun_before_a_setting_existed_goes_on_if_the_setting_is_neutral(train: Train, tmp_path: Path):
    train(tmp_path, steps=1)
    file = tmp_path / "checkpoints/step_00000001/experiment.json"
    record = json.loads(file.read_text())
    assert "ema_decay" not in record["train"]  # the toy writes out two settings only
    from openrayzer.weights.run_record import differences

    later = {**record, "train": record["train"] | {"ema_decay": 0.0, "bad_steps": {"norm_factor": 5.0}}}
    assert differences(record, later) == []
    later["train"] |= {"ema_decay": 0.9}
    assert differences(record, later) == ["train.ema_decay: 0.0 -> 0.9"]
