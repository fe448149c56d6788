"""Makes ``published`` importable, and finds the golden files where they are."""

from pathlib import Path

import pytest

SHARED = Path(__file__).parents[4] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of golden files and specifications; tests that need it skip without."""
    if not SHARED.is_dir():
        pytest.skip(f"needs {SHARED.name}/ beside the project, with golden files and lists of weights")
    return SHARED
