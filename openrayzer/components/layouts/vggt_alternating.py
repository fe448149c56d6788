"""Attention layout: frame and global in turn."""

from typing import Literal

from openrayzer.interfaces import ATTENTION_LAYOUTS, AttentionLayout


@ATTENTION_LAYOUTS.register("vggt_alternating")
class AlternatingLayout(AttentionLayout):
    """Blocks within each view and blocks over all views take turns.

    Args:
        first: what block 0 does: "frame" as in VGGT, Pi3 and E-RayZer, "global" as in Open-RayZer.
    """

    def __init__(self, *, first: Literal["frame", "global"] = "frame") -> None:
        super().__init__()
        self.first = first

    def groups(self, block: int) -> str:
        within_view = (block % 2 == 0) == (self.first == "frame")
        return "(b v) n" if within_view else "b (v n)"
