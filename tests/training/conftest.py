"""Fixtures of the training tests, which share one process group."""

from in_process import quiet_package, train, train_file  # noqa: F401  fixtures
