"""Fixtures of the training tests: one process group for all of them, toy runs in it."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # in_process.py and toy.py are no test modules

from in_process import process, quiet_package, rooms, train, train_file  # noqa: F401  fixtures
