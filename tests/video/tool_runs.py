"""Run folders with random weights, and tools that run in the process of the tests."""

import json
import sys
from collections.abc import Callable
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest
import torch

from openrayzer.cli import run_tool
from openrayzer.composer import construct, load_experiment
from openrayzer.weights.weight_folder import WEIGHTS, write_weights

ROOT = Path(__file__).parents[2]
TINY = ROOT / "tests/training/tiny_rayzer.json"
POINTS = ROOT / "tests/models/points.json"
Tool = Callable[..., tuple[int, str, str]]


def make_run(folder: Path, *changes: str, experiment: Path = TINY) -> Path:
    """Return a run folder with random weights."""
    plan = load_experiment(experiment, overrides=changes)
    torch.manual_seed(0)
    folder.mkdir()
    (folder / "experiment.json").write_text(json.dumps(plan.resolved))
    write_weights(construct(plan.plan.arguments["model"]), folder / WEIGHTS)
    return folder


def tool_named(name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Tool:
    """Return a function that runs a tool in the current folder and returns exit code, stdout and stderr."""
    spec = spec_from_file_location(name, ROOT / f"tools/{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *arguments])
        with pytest.raises(SystemExit) as ended:
            run_tool(module.main)
        return (int(ended.value.code or 0), *capsys.readouterr())

    return run
