"""Attention layouts "global" and "frame", which are the same in each block."""

from openrayzer.interfaces import ATTENTION_LAYOUTS, AttentionLayout


@ATTENTION_LAYOUTS.register("global")
class GlobalLayout(AttentionLayout):
    """All tokens of all views attend to each other in each block, as in RayZer."""

    def groups(self, block: int) -> str:
        return "b (v n)"


@ATTENTION_LAYOUTS.register("frame")
class FrameLayout(AttentionLayout):
    """Tokens attend to the tokens of their own view in each block; there is no attention among views."""

    def groups(self, block: int) -> str:
        return "(b v) n"
