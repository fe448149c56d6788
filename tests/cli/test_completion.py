"""``openrayzer completion`` prints a script with which bash completes commands, options and experiments."""

import subprocess
from pathlib import Path

import pytest

from openrayzer.cli.__main__ import main

pytest.importorskip("shtab", reason="needs shtab: pip install 'openrayzer[completion]'")

LINES = {
    "openrayzer tr": ["train"],
    "openrayzer train --ex": ["--exp"],
    "openrayzer train --exp rayzer_geo": ["rayzer_geometric_dl3dv", "rayzer_geometric_re10k"],
    "openrayzer check fil": ["file.json"],
    "openrayzer prepare con": ["convert"],
    "openrayzer prepare convert --short": ["--short_side"],
    "openrayzer video --images pho": ["photos"],
}


def test_bash_completes_commands_options_experiments_and_files(tmp_path: Path, capsys):
    assert main(["completion", "bash"]) == 0
    script = capsys.readouterr().out
    (tmp_path / "file.json").touch()
    (tmp_path / "photos").mkdir()
    for line in LINES:
        words = line.split()
        script += f"""
COMP_WORDS=({line}) COMP_CWORD={len(words) - 1} COMPREPLY=()
_shtab_openrayzer openrayzer {words[-1]} {words[-2]} 2>/dev/null
echo "${{COMPREPLY[*]}}"
"""
    done = subprocess.run(["bash"], input=script, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert dict(zip(LINES, map(str.split, done.stdout.splitlines()), strict=True)) == LINES


def test_the_script_for_zsh_has_every_experiment(capsys):
    assert main(["completion", "zsh"]) == 0
    script = capsys.readouterr().out
    assert script.startswith("#compdef openrayzer")
    experiments = [file.stem for file in (Path(__file__).parents[2] / "experiments").glob("*.json")]
    assert [name for name in experiments if name not in script] == []
