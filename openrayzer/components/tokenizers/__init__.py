"""Tokenizers: images to patch tokens."""

from openrayzer.components.tokenizers import dinov2 as dinov2
from openrayzer.components.tokenizers import dinov3 as dinov3
from openrayzer.components.tokenizers import linear as linear
