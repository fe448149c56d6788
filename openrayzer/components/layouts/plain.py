"""Attention layout: everything sees everything."""

from openrayzer.interfaces import ATTENTION_LAYOUTS, AttentionLayout


@ATTENTION_LAYOUTS.register("global")
class GlobalLayout(AttentionLayout):
    """All tokens of all views see each other in every block, as in RayZer."""

    def groups(self, block: int) -> str:
        return "b (v n)"
