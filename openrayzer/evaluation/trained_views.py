"""A remark on models that work only with the number of views with which they were trained."""

from collections.abc import Iterable, Mapping
from typing import Any

from openrayzer.interfaces import Model, PositionEncoding, ViewChoice


def trained_views_notes(model: Model, choices: Iterable[ViewChoice], view_sampler: Mapping[str, Any]) -> list[str]:
    """One sentence if the position encoding counts views, and clips have other numbers of views than in training.

    Such a model learns cameras that depend on the number of views. RayZer's official release is one.

    Args:
        model: the evaluated model.
        choices: the views of all clips.
        view_sampler: settings of the view sampler of the training.
    """
    if model.posed or not any(isinstance(part, PositionEncoding) and part.reads_view_index for part in model.modules()):
        return []
    trained = _numbers(view_sampler)
    listed = {len(choice.frames) for choice in choices} - {*trained}
    if not (trained and listed):
        return []
    numbers = f"{trained[0]}" if len(trained) == 1 else f"{trained[0]} to {trained[-1]}"
    return [
        f"clips of {', '.join(map(str, sorted(listed)))} views; the model was trained with {numbers}, and its position "
        "encoding counts views, so its cameras and images may be useless with another number; choose as many views as "
        "in training, or train the model further"
    ]


def _numbers(view_sampler: Mapping[str, Any]) -> range:
    """Numbers of views of a clip in training; empty if the settings do not show them."""
    counts = [view_sampler[key] for key in ("num_views", "num_context", "num_target") if view_sampler.get(key)]
    if not counts:
        return range(0)
    least, most = (sum(count[end] if isinstance(count, list | tuple) else count for count in counts) for end in (0, -1))
    if view_sampler.get("split") == "lvsm":  # targets may be context views
        least = max(count[0] if isinstance(count, list | tuple) else count for count in counts)
    return range(least, most + 1)
