"""A check of an experiment: can its model read cameras off the list of views?"""

from collections.abc import Iterator
from typing import Any, get_args, get_type_hints

import torch

from openrayzer.composer import Plan, construct
from openrayzer.interfaces import InputError, PositionEncoding, ViewSampler
from openrayzer.planning.clip_shapes import example_choices
from openrayzer.settings import Experiment

SHORTEST = 3
"""Smallest number of views whose order can be temporal or not: two views can only be swapped."""


def view_order_warnings(planned: Plan, experiment: Experiment) -> list[str]:
    """One sentence for each position encoding that lets the model learn cameras from the order of the views.

    A model that sees the index of a view in a list in temporal order can predict a camera from the index alone. The
    photometric loss does not prevent this: such cameras follow a mean path, and they fail the checks of
    ``evaluation.trials.sanity`` that change the order or the number of the views.

    Args:
        planned: plan of the experiment.
        experiment: the experiment that was built from it.
    """
    model, sampler = experiment.model, planned.arguments["data"].arguments["view_sampler"]
    if model.posed or model.order_free_cameras:
        return []
    encodings = [plan for plan in _encodings(planned.arguments["model"]) if _reads_view_index(plan)]
    if not encodings or not _is_temporal(experiment.data.view_sampler, steps=experiment.train.steps):
        return []
    if "shuffled" in get_args(get_type_hints(sampler.target.__init__).get("order")):
        cause = f"{sampler.path}.order is {sampler.arguments['order']!r}"
        remedy = f'set {sampler.path}.order to "shuffled"'
    else:
        cause = f"{sampler.path} lists the views in temporal order"
        remedy = f'take a {sampler.path} with order "shuffled", such as "window"'
    return [
        f"{encoding.path} {encoding.name!r} reads the index of each view, and {cause}, so the model can learn cameras "
        f"from the index instead of the images; {remedy}, or take a position encoding without the index"
        for encoding in encodings
    ]


def _encodings(planned: Any) -> Iterator[Plan]:
    """The outermost position encodings in a plan."""
    if isinstance(planned, Plan):
        if issubclass(planned.target, PositionEncoding):
            yield planned
        else:
            for value in planned.arguments.values():
                yield from _encodings(value)
    elif isinstance(planned, list | tuple):
        for value in planned:
            yield from _encodings(value)


def _reads_view_index(planned: Plan) -> bool:
    with torch.device("meta"):
        return construct(planned).reads_view_index


def _is_temporal(sampler: ViewSampler, *, steps: int) -> bool:
    """Whether the views of all clips are in the order of their frame numbers."""
    try:
        listed = [choice.frames for choice in example_choices(sampler, steps=steps)]
    except InputError:  # the sampler needs the data
        return False
    return all(list(frames) == sorted(frames) for frames in listed) and max(map(len, listed)) >= SHORTEST
