"""Train and run large view synthesis models: RayZer, LVSM and their successors."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from openrayzer.weights.loading import load_model as load_model

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """``openrayzer.load_model``, imported at its first use, so that the import of the package stays fast."""
    if name != "load_model":
        raise AttributeError(f"module 'openrayzer' has no attribute {name!r}")
    from openrayzer.weights.loading import load_model

    return load_model
