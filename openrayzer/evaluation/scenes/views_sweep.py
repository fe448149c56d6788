"""The same targets from fewer contexts: how much each further view is worth."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

import torch

from openrayzer.evaluation.scenes.measuring import Measurer, frames_at, rows_of
from openrayzer.evaluation.trials.view_changes import rearranged
from openrayzer.interfaces import InputError, ViewChoice
from openrayzer.types import Views


@dataclass(frozen=True)
class Counts:
    """Numbers of contexts that are tried, and what is worth saying of it."""

    counts: tuple[int, ...]
    problems: list[str]


def counts_that_fit(wanted: Sequence[int], choices: Mapping[str, ViewChoice]) -> Counts:
    """The numbers of contexts that at least one scene has.

    Raises:
        InputError: none of them.
    """
    if not wanted:
        return Counts((), [])
    most = max(len(choice.context) for choice in choices.values())
    counts = tuple(sorted({count for count in wanted if count <= most}))
    if not counts:
        raise InputError(f"--views {' '.join(map(str, wanted))}: no scene has more than {most} context views")
    above = sorted({count for count in wanted if count > most})
    problems = [f"views sweep: no scene has {' or '.join(map(str, above))} context views"] if above else []
    fewer = sum(len(choice.context) < counts[-1] for choice in choices.values())
    problems += [f"views sweep: {fewer} scenes have fewer than {counts[-1]} contexts and are left out"] if fewer else []
    return Counts(counts, problems)


def spread_order(frames: Sequence[int]) -> list[int]:
    """Places of frames in an order whose every beginning is spread evenly: first, last, then the farthest from those.

    Of equally far ones the earlier comes first. So the subsets of a sweep are nested, and what a larger one adds is
    the worth of the added views alone.
    """
    rest = sorted(range(len(frames)), key=lambda place: frames[place])
    order = [rest.pop(0)] + ([rest.pop()] if rest else [])
    while rest:
        distances = [min(abs(frames[place] - frames[chosen]) for chosen in order) for place in rest]
        order.append(rest.pop(distances.index(max(distances))))
    return order


@torch.no_grad()
def sweep(measure: Measurer, clip: Views, counts: Sequence[int]) -> dict[int, dict[str, dict[str, float]]]:
    """Metrics of one clip by number of contexts and method; empty if it has fewer contexts than the most."""
    if not counts or clip.context.shape[1] < max(counts):
        return {}
    order = spread_order(frames_at(clip, clip.context, 0))
    table = {}
    for count in counts:
        part = with_contexts(clip, sorted(order[:count]))
        placed = measure.place(part)
        poses = measure.pose_table(part, placed, 0)
        rows = rows_of(measure.judge(part, placed, exchanged=False), 0)
        images = {
            method: {metric: fmean(values) for metric, values in metrics.items()} for method, metrics in rows.items()
        }
        table[count] = {method: images.get(method, {}) | poses.get(method, {}) for method in {**images, **poses}}
    return table


def with_contexts(clip: Views, places: Sequence[int]) -> Views:
    """A clip with some of its contexts and all of its targets; what is neither is gone from the view axis.

    Args:
        clip: one batch element.
        places: which contexts, among the contexts.
    """
    context = clip.context[:, list(places)]
    kept = torch.cat([context, clip.target], dim=1)[0].unique().tolist()  # sorted: the order of the view axis stays
    return rearranged(replace(clip, context=context), kept, tuple(range(clip.target.shape[1])))
