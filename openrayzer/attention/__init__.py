"""Ways to compute attention; each file registers one or, in ``kernels``, several."""

from openrayzer.attention import auto as auto
from openrayzer.attention import flex as flex
from openrayzer.attention import kernels as kernels
from openrayzer.attention import reference as reference
from openrayzer.attention import sdpa as sdpa
from openrayzer.attention import xformers as xformers
