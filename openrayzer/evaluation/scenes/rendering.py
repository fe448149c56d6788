"""Rendered targets, judged as they come, so that hundreds of them need no more memory than a few."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from openrayzer.evaluation.metrics.image_baselines import mean_context, nearest_context, shuffled
from openrayzer.evaluation.metrics.image_scores import ImageScores
from openrayzer.evaluation.placements import PlacedViews
from openrayzer.interfaces import Model
from openrayzer.machine import FittingBatches
from openrayzer.types import Cameras, Views

EXCHANGED = "exchanged_cameras"
"""Ends the name of a placement whose target cameras were exchanged among the targets."""
BASELINES: Mapping[str, Callable[[Views], Tensor]] = {"nearest_context": nearest_context, "mean_context": mean_context}
"""What costs nothing, by the name under which it stands beside the model."""


@dataclass(frozen=True)
class Rendered:
    """Judged targets of a batch.

    Attributes:
        scores: method to metric to (b, vt) values.
        shown: placement to its images of some targets, (b, s, 3, h, w) on the CPU.
    """

    scores: dict[str, dict[str, Tensor]]
    shown: dict[str, Tensor]


def render_and_judge(
    model: Model,
    views: Views,
    placed: Mapping[str, PlacedViews],
    scores: ImageScores,
    *,
    autocast: Callable[[], AbstractContextManager],
    batches: FittingBatches,
    shown: tuple[int, ...] = (),
    exchanged: bool = True,
) -> Rendered:
    """Render every target from each placement, and judge it beside the baselines.

    A scene is reconstructed once for each placement; its targets are then rendered and judged in ``batches``.

    Args:
        model: in evaluation mode, on the device of ``views``.
        views: the batch.
        placed: cameras by placement.
        scores: the metrics.
        autocast: around what the model does; metrics are computed outside of it.
        batches: how many target views of each scene are rendered and judged together.
        shown: places of targets whose images are kept.
        exchanged: whether to render with exchanged target cameras, too.

    Raises:
        InputError: there is not enough memory for a single target.
    """
    targets = torch.arange(views.target.shape[1])
    wanted = torch.tensor(shown, dtype=torch.int64)
    with autocast():
        scenes = {
            name: model.prepare(model.reconstruct(views.context_images, each.context, each.index))
            for name, each in placed.items()
        }

    def judged(some: slice) -> Rendered:
        chunk = targets[some]
        part = replace(views, target=views.target[:, chunk])
        target, values, kept = part.target_images, {}, {}
        for name, each in placed.items():
            for method, cameras in _cameras_of(name, each.target, chunk, exchanged=exchanged):
                with autocast():
                    images = model.render(scenes[name], cameras)
                values[method] = scores(images, target)
                if method == name:
                    kept[name] = images[:, torch.isin(chunk, wanted)].float().cpu()
        for method, baseline in BASELINES.items():
            values[method] = scores(baseline(part), target)
        return Rendered(values, kept)

    b, count, _, height, width = views.context_images.shape
    advice = f"{b} scene(s) of {count} context views of {width} x {height} pixels; take fewer, or smaller images"
    return _joined(list(batches.each(len(targets), judged, advice=advice, like=(b, count, height, width, exchanged))))


def _joined(parts: Sequence[Rendered]) -> Rendered:
    """One after the other."""
    first = parts[0]
    scores = {
        method: {metric: torch.cat([part.scores[method][metric] for part in parts], dim=1) for metric in metrics}
        for method, metrics in first.scores.items()
    }
    return Rendered(scores, {name: torch.cat([part.shown[name] for part in parts], dim=1) for name in first.shown})


def _cameras_of(
    name: str, cameras: Cameras, chunk: Int[Tensor, " s"], *, exchanged: bool
) -> Iterator[tuple[str, Cameras]]:
    """The chunk's cameras, and those of other targets in their place."""
    count = cameras.num_views
    yield name, _chosen(cameras, chunk)
    if exchanged and count > 1:
        yield f"{name}_{EXCHANGED}", _chosen(cameras, shuffled(count)[chunk])


def _chosen(cameras: Cameras, views: Int[Tensor, " s"]) -> Cameras:
    return Cameras(cameras.c2w[:, views], cameras.intrinsics[:, views])


def all_cameras(views: Views, placed: PlacedViews) -> Cameras:
    """The cameras of one placement in the order of the view axis; a target that is a context has the context's."""
    batch, count = views.frames.shape
    c2w: Float[Tensor, "b v 4 4"] = placed.context.c2w.new_zeros(batch, count, 4, 4)
    intrinsics: Float[Tensor, "b v 4"] = placed.context.intrinsics.new_zeros(batch, count, 4)
    rows = torch.arange(batch, device=views.frames.device)[:, None]
    for where, cameras in ((views.target, placed.target), (views.context, placed.context)):
        c2w[rows, where], intrinsics[rows, where] = cameras.c2w, cameras.intrinsics
    return Cameras(c2w, intrinsics)
