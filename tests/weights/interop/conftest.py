"""Finds the golden files."""

from pathlib import Path

import pytest

SHARED = Path(__file__).parents[4] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """Return the folder of golden files and lists of weights; skip the test if there is none."""
    if not SHARED.is_dir():
        pytest.skip(f"needs {SHARED.name}/ beside the project, with golden files and lists of weights")
    return SHARED
