"""Fixtures that several test folders need."""

import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import slurm_daemons
import torch
from in_process import process, rooms  # noqa: F401  one process group for all tests
from small import small_component

from openrayzer.types import Cameras, Views

ROOT = Path(__file__).parents[1]

os.environ.setdefault("OMP_NUM_THREADS", "1")  # for the processes that tests start
torch.set_num_threads(1)  # tensors of tests are small: a second thread waits more than it computes


@pytest.fixture
def shared_data() -> Path:
    """Real clips beside the project, for those who have them."""
    path = ROOT.parent / "shared" / "data"
    if not path.is_dir():
        pytest.skip(f"needs real clips in {path}")
    return path


@pytest.fixture
def slurm(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """SLURM with this machine as its node, for those who have its daemons."""
    if why := slurm_daemons.refusal():
        pytest.skip(why)
    with slurm_daemons.slurm_daemons(tmp_path_factory.mktemp("slurm")) as configuration:
        monkeypatch.setenv("SLURM_CONF", str(configuration))
        yield


@pytest.fixture(scope="session")
def example_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the files that small components need."""
    return tmp_path_factory.mktemp("examples")


@pytest.fixture(scope="session")
def small(example_files: Path) -> Callable[..., Any]:
    """``small(registry, name, **given)`` builds a small component, see ``small_component``."""
    return partial(small_component, folder=example_files)


@pytest.fixture
def views() -> Views:
    """Two clips of five views, 16 x 24 pixels, with cameras; the targets are views 1 and 3."""
    generator = torch.Generator().manual_seed(0)
    c2w = torch.eye(4).repeat(2, 5, 1, 1)
    c2w[..., :3, 3] = torch.rand(2, 5, 3, generator=generator)
    return Views(
        images=torch.rand(2, 5, 3, 16, 24, generator=generator),
        frames=torch.arange(5).repeat(2, 1) * 3,
        context=torch.tensor([[0, 2, 4]] * 2),
        target=torch.tensor([[1, 3]] * 2),
        scenes=("attic", "cellar"),
        cameras=Cameras(c2w, torch.tensor([0.8, 1.2, 0.5, 0.5]).repeat(2, 5, 1)),
    )
