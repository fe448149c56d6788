"""Attention backends: implementations of softmax(q k^T / sqrt(e)) v."""

from openrayzer.components.attention import auto as auto
from openrayzer.components.attention import flex as flex
from openrayzer.components.attention import kernels as kernels
from openrayzer.components.attention import reference as reference
from openrayzer.components.attention import sdpa as sdpa
from openrayzer.components.attention import xformers as xformers
