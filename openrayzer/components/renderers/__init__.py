"""Renderers: ray tokens of target views and the memory of a scene to tokens of the rendered views."""

from openrayzer.components.renderers import joint as joint
from openrayzer.components.renderers import reading as reading
