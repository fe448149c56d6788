"""README agrees with the code: its file map is the tree, its example trains, its experiments and tools exist."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from launching import clean_environment

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def code_blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def mapped_paths() -> list[str]:
    """Paths of the file map: names in the first column, nested by two spaces of indentation."""
    block = README.partition("## Where things are")[2].partition("```text\n")[2].partition("```")[0]
    folders: list[str] = []
    paths = []
    for line in block.splitlines():
        name = line.split()[0]
        level = (len(line) - len(line.lstrip())) // 2
        folders = folders[:level]
        paths.append("".join(folders) + name)
        if name.endswith("/"):
            folders.append(name)
    return paths


def test_file_map_is_the_tree():
    paths = mapped_paths()
    assert [path for path in paths if not (ROOT / path).exists()] == []
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    known = set(paths)
    # a folder that is listed without its files stands for all of them
    covering = {
        path for path in paths if path.endswith("/") and not any(p != path and p.startswith(path) for p in paths)
    }
    missing = [
        file
        for file in tracked
        if file not in known
        and not any(file.startswith(folder) for folder in covering)
        and not file.endswith("__init__.py")
        and not file.startswith(".")
    ]
    assert missing == []


def test_every_experiment_named_in_the_readme_exists_and_every_one_is_named():
    kinds = "rayzer|rayder|erayzer|lvsm|efficient_lvsm|uplvsm|ptlvsm"
    named = set(re.findall(rf"`((?:{kinds})_\w+)`", README)) - {"lvsm_encoder_decoder"}
    assert named == {file.stem for file in (ROOT / "experiments").glob("*.json")}


def test_every_tool_named_in_the_readme_exists():
    for tool in set(re.findall(r"tools/\w+\.py", README)):
        assert (ROOT / tool).is_file(), tool


@pytest.mark.parametrize("marker", ["demo", "tests"])
def test_the_two_commands_set_themselves_up(marker):
    command = README.partition(f"<!-- {marker} -->")[2].partition("```bash\n")[2].partition("\n")[0]
    assert command.startswith("python3 -m venv .venv && .venv/bin/pip install -e ")


def test_the_camera_head_of_the_readme_trains_as_a_plugin(tmp_path: Path):
    """The file and the experiment of a user, outside the project, for 20 steps."""
    (head,) = [block for block in code_blocks("python") if "CAMERA_HEADS.register" in block]
    (experiment,) = [json.loads(block) for block in code_blocks("json") if "plugins" in block]
    (tmp_path / "my_head.py").write_text(head, encoding="utf-8")
    (tmp_path / "my_experiment.json").write_text(json.dumps(experiment), encoding="utf-8")
    (tmp_path / "experiments").symlink_to(ROOT / "experiments")
    (tmp_path / "ds_configs").symlink_to(ROOT / "ds_configs")
    small = ["num_train=4", "num_test=2", "num_frames=10"]
    changes = [f"data.{split}[0].dataset.{change}" for split in ("train", "test") for change in small]
    changes += ["train.steps=20", "train.batch_size=2", "train.schedule.warmup_steps=5", "data.workers=0"]
    command = [sys.executable, str(ROOT / "tools/train.py"), "--exp", "my_experiment.json", "--set", *changes]
    done = subprocess.run(command, cwd=tmp_path, env=clean_environment(), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    resolved = json.loads((tmp_path / "runs/my_experiment/experiment.json").read_text())
    assert resolved["model"]["camera_head"] == {"type": "mean_pose", "width": 192, "step": 0.1}
    lines = [json.loads(line) for line in (tmp_path / "runs/my_experiment/metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if line["split"] == "test"] == [20]
    losses = [line["loss"] for line in lines if line["split"] == "train"]
    assert losses == sorted(losses, reverse=True) or losses[-1] < losses[0]
