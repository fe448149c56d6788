"""Checkpoints of a training run: saving, publishing, restoring."""
