"""A resumed run on a GPU equals an uninterrupted one to the bit, with the GPU's random generator."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from test_exact_resume import RUNS, test_a_resumed_run_with_every_feature_on_is_equal_to_the_bit

pytestmark = [pytest.mark.gpu, pytest.mark.usefixtures("rooms", "gpu", "exact")]
resumed_equals_uninterrupted = test_a_resumed_run_with_every_feature_on_is_equal_to_the_bit
del (
    test_a_resumed_run_with_every_feature_on_is_equal_to_the_bit
)  # pytest must not run it here without the fixtures above


@pytest.fixture
def exact() -> Iterator[None]:
    """Deterministic kernels where PyTorch has them; otherwise backward passes of attention sum in any order."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("name", list(RUNS))
def test_a_resumed_run_equals_an_uninterrupted_one(train_file: Callable[..., int], tmp_path: Path, name: str):
    """The runs use all features with state: the moving average of the weights, the clips and all random generators."""
    resumed_equals_uninterrupted(train_file, tmp_path, name)
