"""The views sweep: the same targets from fewer context views."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from openrayzer.evaluation.scenes.measuring import frames_at
from openrayzer.evaluation.trials.view_changes import rearranged
from openrayzer.interfaces import InputError, ViewChoice
from openrayzer.types import Views


@dataclass(frozen=True)
class Counts:
    """Numbers of context views to try, and a sentence for each number or scene that is left out."""

    counts: tuple[int, ...]
    problems: list[str]


def counts_that_fit(wanted: Sequence[int], choices: Mapping[str, ViewChoice]) -> Counts:
    """The numbers of context views that at least one scene has.

    Raises:
        InputError: no scene has any of them.
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
    """Positions of frames: the first frame, the last, then always the frame farthest from the frames before it.

    Of equally far frames, the earlier comes first. The first n frames of this order are the context views of a sweep
    with n views, so its subsets are nested.
    """
    rest = sorted(range(len(frames)), key=lambda position: frames[position])
    order = [rest.pop(0)] + ([rest.pop()] if rest else [])
    while rest:
        distances = [min(abs(frames[position] - frames[chosen]) for chosen in order) for position in rest]
        order.append(rest.pop(distances.index(max(distances))))
    return order


def sweep(
    means: Callable[[Views], dict[str, dict[str, float]]], clip: Views, counts: Sequence[int]
) -> dict[int, dict[str, dict[str, float]]]:
    """Number of context views -> method -> metric of one clip; empty if the clip has fewer than the largest number.

    Args:
        means: measures a clip with some of its context views: method -> metric -> value.
        clip: one batch element.
        counts: numbers of context views.
    """
    if not counts or clip.context.shape[1] < max(counts):
        return {}
    order = spread_order(frames_at(clip, clip.context, 0))
    return {count: means(with_contexts(clip, sorted(order[:count]))) for count in counts}


def with_contexts(clip: Views, chosen: Sequence[int]) -> Views:
    """A clip with some of its context views and all its targets; the other views are removed from the view axis.

    Args:
        clip: one batch element.
        chosen: positions among the context views.
    """
    context = clip.context[:, list(chosen)]
    kept = torch.cat([context, clip.target], dim=1)[0].unique().tolist()  # sorted, so the views keep their order
    return rearranged(replace(clip, context=context), kept, tuple(range(clip.target.shape[1])))
