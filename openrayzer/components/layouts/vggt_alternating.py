"""Attention layout "vggt_alternating": blocks within views alternate with blocks over all views."""

from typing import Literal

from openrayzer.interfaces import ATTENTION_LAYOUTS, AttentionLayout


@ATTENTION_LAYOUTS.register("vggt_alternating")
class AlternatingLayout(AttentionLayout):
    """Blocks with attention within each view alternate with blocks with attention over all views.

    Args:
        first: layout of block 0: "frame" as in VGGT, Pi3 and E-RayZer, "global" as in Open-RayZer.
    """

    def __init__(self, *, first: Literal["frame", "global"] = "frame") -> None:
        super().__init__()
        self.first = first

    def groups(self, block: int) -> str:
        within_view = (block % 2 == 0) == (self.first == "frame")
        return "(b v) n" if within_view else "b (v n)"
