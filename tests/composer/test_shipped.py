"""Names of shipped experiments, and DeepSpeed files from the package."""

import json
from pathlib import Path

import pytest

from openrayzer.composer import SHIPPED, ExperimentError, experiment_file, load_experiment
from openrayzer.training.deepspeed_config import load_deepspeed_config

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder outside of the project."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_experiment_has_a_name():
    files = sorted((ROOT / "experiments").glob("*.json"))
    assert [experiment_file(file.stem).resolve() for file in files] == files


def test_a_path_and_an_existing_file_come_before_the_name(elsewhere: Path):
    assert experiment_file("rayzer_demo.json") == Path("rayzer_demo.json")
    assert experiment_file("mine/rayzer_demo") == Path("mine/rayzer_demo")
    (elsewhere / "rayzer_demo").mkdir()
    assert experiment_file("rayzer_demo").parent == SHIPPED / "experiments"
    (elsewhere / "rayder_demo").write_text("{}")
    assert experiment_file("rayder_demo") == Path("rayder_demo")


def test_a_wrong_name_lists_near_ones_and_own_files(elsewhere: Path):
    (elsewhere / "own.json").write_text("{}")
    with pytest.raises(ExperimentError, match=r"no experiment named 'rayzer_dmo'; did you mean .*known: .*own\.json"):
        load_experiment("rayzer_dmo")


def test_the_path_of_a_clone_is_answered_with_the_name():
    with pytest.raises(ExperimentError, match=r"there is no file experiments/rayzer_demo\.json; the name rayzer_demo"):
        load_experiment("experiments/rayzer_demo.json")


def test_an_experiment_extends_a_shipped_one_by_name(elsewhere: Path):
    (elsewhere / "own.json").write_text(json.dumps({"extends": "rayzer_demo", "train": {"steps": 3}}))
    plan = load_experiment("own.json")
    assert plan.resolved["train"]["steps"] == 3
    assert plan.resolved["model"]["type"] == "rayzer_geometric"
    (elsewhere / "own.json").write_text(json.dumps({"extends": "rayzer_dmo"}))
    with pytest.raises(ExperimentError, match=r"extends: there is no experiment named 'rayzer_dmo'; did you mean"):
        load_experiment("own.json")


def test_the_record_of_a_shipped_deepspeed_file_is_valid_on_every_machine():
    plan = load_experiment("rayzer_demo")
    assert plan.resolved["deepspeed"] == "ds_configs/zero2_fp32.json"
    settings = plan.build().train
    config = load_deepspeed_config(Path(plan.resolved["deepspeed"]), settings, world_size=1)
    assert config["zero_optimization"]["stage"] == 2


def test_a_deepspeed_file_beside_the_experiment_is_found(elsewhere: Path):
    (elsewhere / "project").mkdir()
    (elsewhere / "project" / "ds.json").write_text("{}")
    (elsewhere / "project" / "own.json").write_text(json.dumps({"extends": "rayzer_demo", "deepspeed": "ds.json"}))
    assert load_experiment("project/own.json").resolved["deepspeed"] == str(elsewhere / "project" / "ds.json")
