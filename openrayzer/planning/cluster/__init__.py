"""Checks before a run: GPUs, libraries, machines, links between them, the shared folder and the data."""
