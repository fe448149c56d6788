"""Renderers: views from the tokens of a scene, or from the images and cameras of context views."""

from openrayzer.components.renderers import joint as joint
from openrayzer.components.renderers import layered as layered
from openrayzer.components.renderers import pixel_gaussians as pixel_gaussians
from openrayzer.components.renderers import plane_sweep as plane_sweep
from openrayzer.components.renderers import reading as reading
from openrayzer.components.renderers import surface_gaussians as surface_gaussians
