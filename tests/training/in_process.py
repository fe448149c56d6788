"""Fixtures that train toys and experiment files in this process."""

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from openrayzer.composer import load_experiment
from openrayzer.machine.distributed import Process, started
from openrayzer.machine.random_state import seed_all
from openrayzer.training import run


@pytest.fixture(scope="session")
def process() -> Iterator[Process]:
    """A run of this process alone. DeepSpeed cannot start twice in one interpreter."""
    launched = {name: os.environ.get(name) for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_SIZE")}
    with ExitStack() as stack:
        yield stack.enter_context(started())
    for name, value in launched.items():
        os.environ.pop(name, None) if value is None else os.environ.update({name: value})


@pytest.fixture
def train(process: Process, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """``training.run.train`` on a toy experiment, in this process."""
    import toy
    from deepspeed.runtime import torch_autocast

    @contextmanager
    def again() -> Iterator[Process]:
        yield process

    monkeypatch.setattr(run, "started", again)
    monkeypatch.setattr(torch_autocast, "TORCH_AUTOCAST_INITIALIZED", False)

    def one(folder: Path, *, resume: str = "auto", **changes: object) -> int:
        monkeypatch.setattr(torch_autocast, "TORCH_AUTOCAST_INITIALIZED", False)  # else later engines see it
        experiment = toy.experiment(**changes)
        resolved = {"train": {"steps": experiment.train.steps, "batch_size": experiment.train.batch_size}}
        return run.train(experiment, resolved=resolved, run_folder=folder, resume=resume)

    return one


@pytest.fixture
def train_file(train: Callable[..., int]) -> Callable[..., int]:
    """Train an experiment file in this process, like tools/train.py."""
    from deepspeed.runtime import torch_autocast

    def one(file: Path, output: Path, *overrides: str, resume: str = "auto") -> int:
        torch_autocast.TORCH_AUTOCAST_INITIALIZED = False  # put back by the monkeypatch of ``train``
        plan = load_experiment(file, overrides=overrides)
        seed_all(plan.resolved["train"]["seed"])
        return run.train(plan.build(), resolved=plan.resolved, run_folder=output, resume=resume)

    return one


@pytest.fixture
def rooms(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Change to a folder that holds the synthetic rooms of the tiny experiments for all tests."""
    folder = tmp_path_factory.getbasetemp() / "rooms_of_the_tiny"
    folder.mkdir(exist_ok=True)
    monkeypatch.chdir(folder)


@pytest.fixture(autouse=True)
def quiet_package() -> Iterator[None]:
    """Restore the logger of the package after each test."""
    logger = logging.getLogger("openrayzer")
    before = logger.level, list(logger.handlers)
    yield
    logger.setLevel(before[0])
    logger.handlers[:] = before[1]
