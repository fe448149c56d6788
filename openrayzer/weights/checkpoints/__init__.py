"""Checkpoints as files: read here, written by openrayzer.training.checkpointing."""
