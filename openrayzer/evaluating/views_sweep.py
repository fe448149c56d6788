"""The same targets from fewer contexts: how much each further view is worth."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Int
from torch import Tensor

from openrayzer.evaluating.measuring import Measurer, rows_of
from openrayzer.interfaces import InputError, ViewChoice
from openrayzer.types import Cameras, Views


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
def sweep(measure: Measurer, views: Views, row: int, counts: Sequence[int]) -> dict[int, dict[str, dict[str, float]]]:
    """Metrics of one scene by number of contexts and method; empty if the scene has fewer contexts than the most."""
    if not counts or views.context.shape[1] < max(counts):
        return {}
    order = spread_order(views.frames[row, views.context[row]].tolist())
    table = {}
    for count in counts:
        part = part_of(views, row, views.context[row, sorted(order[:count])])
        placed = measure.place(part)
        scores = rows_of(measure.judge(part, placed, exchanged=False), 0)
        poses = measure.pose_table(part, placed, 0)
        table[count] = {
            method: {metric: sum(values) / len(values) for metric, values in metrics.items()} | poses.get(method, {})
            for method, metrics in scores.items()
        } | {method: metrics for method, metrics in poses.items() if method not in scores}
    return table


def part_of(views: Views, row: int, context: Int[Tensor, " vc"]) -> Views:
    """One scene with some of its contexts and all of its targets; what is neither is gone from the view axis."""
    target = views.target[row]
    kept = torch.cat([context, target]).unique()  # sorted: the order of the view axis stays
    cameras = views.cameras
    return replace(
        views,
        images=views.images[row : row + 1, kept],
        frames=views.frames[row : row + 1, kept],
        context=torch.searchsorted(kept, context)[None],
        target=torch.searchsorted(kept, target)[None],
        scenes=views.scenes[row : row + 1],
        cameras=cameras and Cameras(cameras.c2w[row : row + 1, kept], cameras.intrinsics[row : row + 1, kept]),
        clean=None if views.clean is None else views.clean[row : row + 1, kept],
        problems=(),
    )
