"""Evaluation on held-out clips: metrics, placements of targets, trials, report and comparison."""
