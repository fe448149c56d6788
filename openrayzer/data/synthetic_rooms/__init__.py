"""Synthetic rooms: built from a seed, rendered on the CPU, and stored as chunks by the dataset ``synthetic``."""
