"""Rendered targets, judged as they come, so that hundreds of them need no more memory than a few."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from openrayzer.evaluating.image_scores import ImageScores
from openrayzer.evaluation.baselines import mean_context, nearest_context, shuffled
from openrayzer.evaluation.placements import PlacedViews
from openrayzer.interfaces import Model
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
    views_at_once: int,
    shown: tuple[int, ...] = (),
    exchanged: bool = True,
) -> Rendered:
    """Render every target from each placement, and judge it beside the baselines.

    A scene is reconstructed once for each placement; its targets are then rendered ``views_at_once`` at a time.

    Args:
        model: in evaluation mode, on the device of ``views``.
        views: the batch.
        placed: cameras by placement.
        scores: the metrics.
        autocast: around what the model does; metrics are computed outside of it.
        views_at_once: target views of each scene that are rendered together.
        shown: places of targets whose images are kept.
        exchanged: whether to render with exchanged target cameras, too.
    """
    values: dict[str, list[dict[str, Tensor]]] = {}
    kept: dict[str, list[Tensor]] = {name: [] for name in placed}
    wanted = torch.tensor(shown, dtype=torch.int64)
    with autocast():
        scenes = {
            name: model.prepare(model.reconstruct(views.context_images, each.context, each.index))
            for name, each in placed.items()
        }
    for chunk in torch.arange(views.target.shape[1]).split(views_at_once):
        part = replace(views, target=views.target[:, chunk])
        target = part.target_images
        for name, each in placed.items():
            for method, cameras in _cameras_of(name, each.target, chunk, exchanged=exchanged):
                with autocast():
                    images = model.render(scenes[name], cameras)
                values.setdefault(method, []).append(scores(images, target))
                if method == name:
                    kept[name].append(images[:, torch.isin(chunk, wanted)].float().cpu())
        for method, baseline in BASELINES.items():
            values.setdefault(method, []).append(scores(baseline(part), target))
    joined = {
        method: {metric: torch.cat([part[metric] for part in parts], dim=1) for metric in parts[0]}
        for method, parts in values.items()
    }
    return Rendered(joined, {name: torch.cat(parts, dim=1) for name, parts in kept.items()})


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
