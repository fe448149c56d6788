"""Fixtures of the training tests: one process group for all of them, toy runs in it."""

from in_process import process, quiet_package, rooms, train, train_file  # noqa: F401  fixtures
