"""A run on a GPU that was stopped goes on as if it had not been, to the bit, the generator of the GPU included."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from test_exact_resume import RUNS, test_a_run_with_everything_on_goes_on_to_the_bit

pytestmark = [pytest.mark.gpu, pytest.mark.usefixtures("rooms", "gpu", "exact")]
goes_on_to_the_bit = test_a_run_with_everything_on_goes_on_to_the_bit
del test_a_run_with_everything_on_goes_on_to_the_bit  # it is not to run without what is asked for here


@pytest.fixture
def exact() -> Iterator[None]:
    """The same bits twice, as far as PyTorch has such kernels: backward passes of attention otherwise add in any order.

    It is the resume that is tested here. Whoever wants the same of a long run pays for it with speed.
    """
    torch.use_deterministic_algorithms(True, warn_only=True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("name", list(RUNS))
def test_a_run_goes_on_to_the_bit(train_file: Callable[..., int], tmp_path: Path, name: str):
    """With everything on that could tell the two apart; the moving average, the clips and all random states too."""
    goes_on_to_the_bit(train_file, tmp_path, name)
