"""Faults of a training run: bad steps, hangs, signals, lost processes."""
