"""Attention layouts: which tokens attend to each other in each block."""

from openrayzer.components.layouts import plain as plain
from openrayzer.components.layouts import vggt_alternating as vggt_alternating
