"""Makes ``published`` importable, and finds the golden files where they are."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # published.py is no test module

SHARED = Path(__file__).parents[3] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of golden files and specifications; tests that need it skip without."""
    if not SHARED.is_dir():
        pytest.skip(f"needs {SHARED.name}/ beside the project, with golden files and lists of weights")
    return SHARED
