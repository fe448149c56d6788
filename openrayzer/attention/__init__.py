"""Ways to compute attention; each file registers one."""

from openrayzer.attention import auto as auto
from openrayzer.attention import reference as reference
from openrayzer.attention import sdpa as sdpa
from openrayzer.attention import xformers as xformers
