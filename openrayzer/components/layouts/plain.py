"""Attention layouts that are equal in every block: within each view, or over all views."""

from openrayzer.interfaces import ATTENTION_LAYOUTS, AttentionLayout


@ATTENTION_LAYOUTS.register("global")
class GlobalLayout(AttentionLayout):
    """All tokens of all views see each other in every block, as in RayZer."""

    def groups(self, block: int) -> str:
        return "b (v n)"


@ATTENTION_LAYOUTS.register("frame")
class FrameLayout(AttentionLayout):
    """The tokens of one view see each other, in every block; views never meet."""

    def groups(self, block: int) -> str:
        return "(b v) n"
