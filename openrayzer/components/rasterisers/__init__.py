"""Rasterisers: draw scenes of 3D Gaussians."""

from openrayzer.components.rasterisers import tiled as tiled
