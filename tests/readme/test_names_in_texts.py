"""Files that a text names exist, and options of tools are spelt in one way."""

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PATHS = re.compile(
    r"(?<![\w./-])((?:experiments|tools|ds_configs|docs|openrayzer|tests)/[\w/.-]+\.(?:json|py|sh|md))\b"
)


def tracked(*patterns: str) -> list[Path]:
    listed = subprocess.run(["git", "ls-files", *patterns], cwd=ROOT, capture_output=True, text=True, check=True)
    return [ROOT / name for name in listed.stdout.split() if (ROOT / name).is_file()]


def texts_of(file: Path) -> list[str]:
    """A whole page; of a Python file its docstrings."""
    content = file.read_text(encoding="utf-8")
    if file.suffix != ".py":
        return [content]
    nodes = [
        node for node in ast.walk(ast.parse(content)) if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
    ]
    return [ast.get_docstring(node) or "" for node in nodes]


PAGES = [file for file in tracked("*.md", "tools/*.sh") if file.name != "CHANGELOG.md" and "notes" not in file.parts]
MODULES = tracked("openrayzer/*.py", "registry/*.py", "tools/*.py")


@pytest.mark.parametrize("files", [PAGES, MODULES], ids=["pages", "docstrings"])
def test_files_that_are_named_exist(files: list[Path]):
    named = {(name, file.name) for file in files for text in texts_of(file) for name in PATHS.findall(text)}
    assert len(named) > 10
    made = {name for file in files for text in texts_of(file) for name in re.findall(r"[Nn]ew file `([^`]+)`", text)}
    missing = [
        f"{file} names {name}" for name, file in sorted(named) if not (ROOT / name).exists() and name not in made
    ]
    assert [line for line in missing if "NAME" not in line] == []  # NAME is a placeholder


def options_of(file: Path) -> list[str]:
    """Strings like ``--an_option`` that are arguments of a call."""
    calls = [node for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
    given = [argument.value for call in calls for argument in call.args if isinstance(argument, ast.Constant)]
    return [value for value in given if isinstance(value, str) and re.fullmatch(r"--[a-z][\w-]*", value)]


def test_options_are_spelt_with_underscores():
    options = [
        (file.name, option)
        for file in tracked(
            "openrayzer/cli/*.py", "openrayzer/data/commands/*.py", "openrayzer/benchmarks/*_command.py"
        )
        for option in options_of(file)
    ]
    assert len(options) > 100
    assert [f"{file}: {option}" for file, option in options if "-" in option[2:]] == []


def test_options_that_a_page_shows_are_spelt_with_underscores():
    calls = [call for page in PAGES for call in re.findall(r"tools/\w+\.py[^`\n]*(?:\\\n[^`\n]*)*", page.read_text())]
    shown = {option for call in calls for option in re.findall(r"(?<=\s)--[a-z][\w-]*", call)}
    assert len(shown) > 20
    assert [option for option in sorted(shown) if "-" in option[2:]] == []
