"""Fusions: context images and their rays to tokens."""

from openrayzer.components.fusion import first_view_rays as first_view_rays
from openrayzer.components.fusion import pixel as pixel
from openrayzer.components.fusion import residual_mlp as residual_mlp
from openrayzer.components.fusion import token_mlp as token_mlp
