"""Baselines that look at the images and were never trained: an untrained geometric model, and COLMAP."""
