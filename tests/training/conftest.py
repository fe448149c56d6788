"""Fixtures of the training tests, which share one process group."""

from in_process import process, quiet_package, rooms, train, train_file  # noqa: F401  fixtures
