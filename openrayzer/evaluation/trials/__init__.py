"""Trials of a model with changed clips: the sanity battery and the transfer of cameras."""
