"""Rays and a scene's memory to views; each file registers one renderer."""

from openrayzer.components.renderers import joint as joint
from openrayzer.components.renderers import reading as reading
