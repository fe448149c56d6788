"""Rays and a scene's memory to views; each file registers one renderer."""

from openrayzer.renderers import joint as joint
from openrayzer.renderers import reading as reading
