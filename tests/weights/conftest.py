"""A tiny RayZer, saved in several kinds of folders."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from openrayzer.composer import ExperimentPlan, construct, load_experiment
from openrayzer.interfaces import Model
from openrayzer.weights.checkpoints import manifest
from openrayzer.weights.weight_folder import WEIGHTS, write_weights

TINY = Path(__file__).parents[1] / "training/tiny_rayzer.json"


@pytest.fixture(scope="session")
def plan() -> ExperimentPlan:
    """Return the plan of the tiny experiment."""
    return load_experiment(TINY)


@pytest.fixture
def make_model(plan: ExperimentPlan) -> Callable[[int], Model]:
    """Return a function that builds a tiny RayZer with random weights from a seed."""

    def one(seed: int) -> Model:
        torch.manual_seed(seed)
        return construct(plan.plan.arguments["model"]).eval()

    return one


@pytest.fixture
def imported(plan: ExperimentPlan, make_model: Callable[[int], Model], tmp_path: Path) -> Path:
    """Return an imported folder with the weights of seed 1."""
    folder = tmp_path / "imported"
    folder.mkdir()
    note = {"source": "somebody/their-rayzer", "license": "CC BY-NC-SA 4.0", "notes": ["eight views at most"]}
    (folder / "experiment.json").write_text(json.dumps({**plan.resolved, "run": {"imported": note}}))
    write_weights(make_model(1), folder / WEIGHTS)
    return folder


@pytest.fixture
def add_checkpoint(make_model: Callable[[int], Model]) -> Callable[..., Path]:
    """Return a function that adds a checkpoint with the weights of a seed to a run folder."""

    def one(folder: Path, *, step: int, seed: int, zero_stage: int = 2) -> Path:
        place = folder / "checkpoints" / manifest.checkpoint_name(step)
        place.mkdir(parents=True)
        state = {f"model.{name}": value for name, value in make_model(seed).state_dict().items()}
        torch.save({"module": state}, place / "mp_rank_00_model_states.pt")
        (place / "experiment.json").write_bytes((folder / "experiment.json").read_bytes())
        files = {file.name: [file.stat().st_size, manifest.checksum(file)] for file in sorted(place.iterdir())}
        counts = {"step": step, "skipped": 0, "skipped_in_a_row": 0, "world_size": 1, "zero_stage": zero_stage}
        (place / "manifest.json").write_text(json.dumps({"format": 1, **counts, "files": files}))
        return place

    return one
