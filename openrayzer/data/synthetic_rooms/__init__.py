"""Synthetic rooms: made from a seed, filmed on the CPU, stored as chunks by the dataset ``synthetic``."""
