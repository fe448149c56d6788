"""Rasterisers: draw scenes of 3D Gaussians."""

from openrayzer.components.rasterisers import choosing as choosing
from openrayzer.components.rasterisers import gsplat as gsplat
from openrayzer.components.rasterisers import tiled as tiled
