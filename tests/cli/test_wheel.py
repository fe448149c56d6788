"""The wheel holds what the commands need outside of a clone."""

import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_the_wheel_has_the_command_the_experiments_and_the_templates(tmp_path: Path):
    archive = subprocess.run(["git", "archive", "HEAD"], cwd=ROOT, capture_output=True, check=True).stdout
    subprocess.run(["tar", "-x", "-C", tmp_path], input=archive, check=True)
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-w", "wheels", "."]
    subprocess.run(command, cwd=tmp_path, capture_output=True, check=True)
    (wheel,) = (tmp_path / "wheels").glob("openrayzer-*.whl")
    with ZipFile(wheel) as opened:
        names = set(opened.namelist())
        (points,) = [name for name in names if name.endswith("/entry_points.txt")]
        assert "openrayzer = openrayzer.cli.__main__:start" in opened.read(points).decode()
    for folder in ("experiments", "ds_configs"):
        assert {f"openrayzer/shipped/{folder}/{file.name}" for file in (tmp_path / folder).glob("*.json")} <= names
    templates = (tmp_path / "openrayzer/cli/project").iterdir()
    assert {f"openrayzer/cli/project/{file.name}" for file in templates} <= names
    assert {name.partition("/")[0] for name in names if "dist-info" not in name} == {"openrayzer", "registry"}


def test_the_links_to_shipped_files_lead_to_the_folders_of_the_clone():
    for folder in ("experiments", "ds_configs"):
        assert (ROOT / "openrayzer/shipped" / folder).resolve() == ROOT / folder
