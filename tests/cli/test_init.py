"""``openrayzer init`` writes a project that loads and trains as it is."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from launching import TIMEOUT, clean_environment

from openrayzer.cli.__main__ import main
from openrayzer.composer import construct, load_experiment
from openrayzer.interfaces import InputError
from openrayzer.training.deepspeed_config import load_deepspeed_config

ROOT = Path(__file__).parents[2]
FILES = ["README.md", "ds_config.json", "edge_loss.py", "experiment.json", "train.slurm"]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    assert main(["init", str(tmp_path / "mine")]) == 0
    return tmp_path / "mine"


def test_the_project_has_its_files_and_the_output_names_them(tmp_path: Path, capsys):
    project = tmp_path / "mine"
    assert main(["init", str(project)]) == 0
    assert capsys.readouterr().out.startswith(f"{project}: {', '.join(FILES)}\n")
    assert sorted(file.name for file in project.iterdir()) == FILES
    readme = (project / "README.md").read_text()
    assert [file for file in FILES[1:] if f"`{file}`" not in readme] == []


def test_a_folder_with_files_is_refused_and_an_empty_one_is_filled(project: Path, tmp_path: Path):
    with pytest.raises(InputError, match="mine exists and is not empty; choose another folder"):
        main(["init", str(project)])
    (tmp_path / "empty").mkdir()
    assert main(["init", str(tmp_path / "empty")]) == 0
    assert sorted(file.name for file in (tmp_path / "empty").iterdir()) == FILES


def test_the_experiment_extends_a_shipped_one_and_has_its_own_loss_and_deepspeed_file(project: Path):
    plan = load_experiment(project / "experiment.json")  # from another working folder
    assert plan.resolved["model"] == load_experiment("rayzer_demo").resolved["model"]
    assert [term["loss"]["type"] for term in plan.resolved["loss"]] == ["mse", "edges"]
    train = construct(plan.plan.arguments["train"])
    assert Path(plan.plan.arguments["deepspeed"]) == project / "ds_config.json"
    assert load_deepspeed_config(Path(plan.plan.arguments["deepspeed"]), train, world_size=1)


def test_the_loss_of_the_project_is_the_mean_difference_of_image_gradients(project: Path):
    term = construct(load_experiment(project / "experiment.json").plan.arguments["loss"])[1]
    target = torch.zeros(1, 1, 3, 2, 3)
    prediction = target.clone()
    prediction[..., 0, 0] = 1.0  # 1 of 3 differences downwards, 1 of 4 to the right
    assert term.loss(prediction, target).item() == pytest.approx(1 / 3 + 1 / 4)
    assert term.loss(target + 0.5, target).item() == 0.0


def test_the_job_for_slurm_is_a_valid_script_that_trains_the_experiment(project: Path):
    text = (project / "train.slurm").read_text()
    assert subprocess.run(["bash", "-n"], input=text, text=True, check=False).returncode == 0
    assert "srun --cpus-per-task=12 openrayzer train --exp experiment.json" in text
    (options,) = [line for line in (ROOT / "docs/clusters.md").read_text().splitlines() if "--requeue --open" in line]
    assert options in text


@pytest.mark.slow
def test_the_project_trains_as_it_is(project: Path):
    small = [f"data.{split}[0].dataset.{name}" for split in ("train", "test") for name in ("num_train=4", "num_test=2")]
    command = [sys.executable, "-m", "openrayzer.cli", "train", "--exp", "experiment.json"]
    environment = clean_environment() | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [*command, "--set", "train.steps=20", *small], cwd=project, env=environment, capture_output=True, text=True,
        timeout=TIMEOUT, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    resolved = json.loads((project / "runs/experiment/experiment.json").read_text())
    assert resolved["deepspeed"] == "ds_config.json"
    assert (project / "data/rooms_demo").is_dir()
    lines = [json.loads(line) for line in (project / "runs/experiment/metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if line["split"] == "test"] == [20]
    assert all(line["edges"] > 0 for line in lines if line["split"] == "train")
