"""Objectives: how training makes predictions of the target views."""

from openrayzer.components.objectives import mask_swap as mask_swap
from openrayzer.components.objectives import photometric_objective as photometric_objective
from openrayzer.components.objectives import repa as repa
