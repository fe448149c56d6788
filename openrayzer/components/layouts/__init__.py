"""Which tokens see which; each file registers one layout."""

from openrayzer.components.layouts import plain as plain
from openrayzer.components.layouts import vggt_alternating as vggt_alternating
