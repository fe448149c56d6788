"""Fixtures of the tests of models: runs in this process, as in the training tests."""

from in_process import quiet_package, train, train_file  # noqa: F401  fixtures
