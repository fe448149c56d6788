"""Makes ``example`` importable, and finds a browser."""

import shutil

import pytest


@pytest.fixture
def chromium() -> str:
    """Path of Chromium; without it the test is skipped."""
    for name in ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"):
        if path := shutil.which(name):
            return path
    pytest.skip("needs Chromium or Chrome on the PATH")
