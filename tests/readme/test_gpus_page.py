"""docs/gpus.md agrees with the code: its tools, options, files, backends and settings exist."""

import re
import subprocess
from dataclasses import fields
from pathlib import Path

import pytest

from openrayzer.cli import COMMANDS
from openrayzer.components.attention.preference import TABLE
from openrayzer.interfaces import ATTENTION_BACKENDS
from openrayzer.settings import DataSettings, TrainSettings

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/gpus.md").read_text(encoding="utf-8")
CALLS = re.findall(r"(tools/\w+\.(?:py|sh))([^`\n]*)", PAGE)


def source_of(tool: str) -> str:
    """The text of a script; of a Python tool, the texts that define its command."""
    text = (ROOT / tool).read_text(encoding="utf-8")
    for name in re.findall(r'COMMANDS\["([\w-]+)"\]', text):
        command = ROOT / f"{COMMANDS[name].module.replace('.', '/')}.py"
        text = command.read_text(encoding="utf-8") + (ROOT / "openrayzer/cli/arguments.py").read_text(encoding="utf-8")
    return text


def test_tools_and_their_options_exist():
    assert {tool for tool, _ in CALLS} >= {"tools/check_gpu.py", "tools/measure_gpu.sh", "tools/benchmark_training.py"}
    for tool, rest in CALLS:
        source = source_of(tool)
        for option in re.findall(r"(--\w+)", rest.partition("#")[0].partition(";")[0]):
            assert f'"{option}"' in source, f"{tool} has no option {option}"


def test_files_it_names_exist():
    names = set(re.findall(r"(?:docs|tests|openrayzer|ds_configs|experiments|tools)/[\w/]*\.(?:md|py|json|sh)", PAGE))
    assert len(names) > 10
    assert [name for name in sorted(names) if not (ROOT / name).exists()] == []


@pytest.mark.parametrize(("section", "settings"), [("train", TrainSettings), ("data", DataSettings)])
def test_settings_it_names_exist(section: str, settings: type):
    named = set(re.findall(rf"`{section}\.(\w+)", PAGE)) - {"log"}
    assert named
    assert named <= {field.name for field in fields(settings)}


def test_every_attention_backend_is_described_and_the_order_of_preference_is_right():
    described = {*re.findall(r"^\| `(\w+)` \| ", PAGE, flags=re.MULTILINE), "auto"}
    rows = [f"| `{entry.name}` | {entry.summary} |" for entry in ATTENTION_BACKENDS if entry.name not in described]
    assert not rows, "add to the table of docs/gpus.md:\n" + "\n".join(rows)
    assert described == {entry.name for entry in ATTENTION_BACKENDS}
    for row in TABLE:
        assert ", ".join(f"`{name}`" for name in row.order) in PAGE, row.order


def test_the_gpu_tests_are_marked_and_tracked():
    files = sorted((ROOT / "tests/gpu").glob("test_*.py"))
    assert all("pytest.mark.gpu" in file.read_text(encoding="utf-8") for file in files if file.stem != "test_table")
    tracked = subprocess.run(["git", "ls-files", "tests/gpu"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert {f"tests/gpu/{file.name}" for file in files} <= set(tracked.stdout.split())
