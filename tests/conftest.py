"""Fixtures that several test folders need."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def shared_data() -> Path:
    """Real clips beside the project, for those who have them."""
    path = ROOT.parent / "shared" / "data"
    if not path.is_dir():
        pytest.skip(f"needs real clips in {path}")
    return path
