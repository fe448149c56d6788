"""Estimates before a run: its computation, memory, disk space and data, and whether the machines are fit for it."""
