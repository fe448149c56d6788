"""Rasterisers: draw scenes of 3D Gaussians."""
