"""Faults of a training: bad steps, hangs, signals, lost processes."""
