"""Attention layout: each view by itself."""

from openrayzer.interfaces import ATTENTION_LAYOUTS, AttentionLayout


@ATTENTION_LAYOUTS.register("frame")
class FrameLayout(AttentionLayout):
    """The tokens of one view see each other, in every block; views never meet."""

    def groups(self, block: int) -> str:
        return "(b v) n"
