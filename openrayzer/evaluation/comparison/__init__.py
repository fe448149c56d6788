"""Comparison of runs and evaluations."""
