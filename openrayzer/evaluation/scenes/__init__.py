"""Measurement of scenes: rendering, metrics, cameras, pictures, the views sweep and the trials of poses."""
