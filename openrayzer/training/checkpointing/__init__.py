"""Checkpoints of a running training: saved, published, restored."""
