"""Which tokens see which; each file registers one layout."""

from openrayzer.layouts import frame as frame
from openrayzer.layouts import global_layout as global_layout
from openrayzer.layouts import vggt_alternating as vggt_alternating
