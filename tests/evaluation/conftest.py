"""Untrained runs on a few tiny rooms, evaluated in this process."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from openrayzer.composer import load_experiment
from openrayzer.evaluation import evaluate as evaluation
from openrayzer.evaluation.request import EvaluationRequest
from openrayzer.machine.distributed import Process
from openrayzer.weights.weight_folder import WEIGHTS, write_weights

TINY = Path(__file__).parents[1] / "training/tiny_rayzer.json"


@pytest.fixture(scope="session")
def rooms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the rooms, which are made once."""
    return tmp_path_factory.mktemp("evaluating") / "rooms"


@pytest.fixture(scope="session")
def make_run(rooms: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A function that makes a run folder with random weights, of a RayZer or another model."""

    def make(model: dict[str, Any] | None = None) -> Path:
        folder = tmp_path_factory.mktemp("run")
        values = json.loads(TINY.read_text()) | ({"model": model} if model else {})
        source = folder / "source.json"
        source.write_text(json.dumps(values))
        places = [f"data.{split}[0].dataset.root={rooms}" for split in ("train", "test")]
        rooms_of_test = [f"data.{split}[0].dataset.num_train=1" for split in ("train", "test")]
        planned = load_experiment(source, overrides=[*places, *rooms_of_test, "data.workers=0"])
        (folder / "experiment.json").write_text(json.dumps(planned.resolved, default=str))
        torch.manual_seed(1)
        model_of_run = planned.build().model
        for weight in model_of_run.parameters():  # weights of zero would make all cameras equal
            torch.nn.init.normal_(weight, std=0.1)
        write_weights(model_of_run, folder / WEIGHTS)
        return folder

    return make


@pytest.fixture(scope="session")
def rayzer(make_run: Callable[..., Path]) -> Path:
    return make_run()


@pytest.fixture
def process() -> Process:
    return Process(0, 1, 1, torch.device("cpu"))


@pytest.fixture
def evaluate(process: Process, tmp_path: Path) -> Iterator[Callable[..., dict[str, Any]]]:
    """A function that evaluates a run into ``tmp_path / "out"``, without baselines that cost time."""

    def call(folder: Path, **changes: Any) -> dict[str, Any]:
        values = {"run": str(folder), "output": tmp_path / "out", "baselines": ()} | changes
        return evaluation.evaluate(EvaluationRequest(**values), process)

    return call
