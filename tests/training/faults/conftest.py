"""Fixtures: a fork server for the fault tests, and runs of two ranks."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ranks import EXPERIMENT, ROOT, ForkServer, Run, fork_server

Start = Callable[..., Run]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of all runs of a module; it holds the rooms for all tests."""
    return tmp_path_factory.mktemp("faults")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[ForkServer]:
    """A fork server, which starts ranks quickly."""
    with fork_server(folder) as running:
        yield running


@pytest.fixture
def start(server: ForkServer, folder: Path) -> Iterator[Start]:
    """Start a run of two ranks. Its ranks are killed at the end of the test."""
    runs: list[Run] = []

    def one(name: str, *changes: str, exp: Path = EXPERIMENT, world_size: int = 2) -> Run:
        fp32 = f"deepspeed={ROOT / 'ds_configs/zero2_fp32.json'}"
        arguments = ("--exp", str(exp), "--output", str(folder / name), "--set", fp32, *changes)
        runs.append(server.start(*arguments, log=folder / f"{name}.log", world_size=world_size))
        return runs[-1]

    yield one
    for run in runs:
        run.end()
