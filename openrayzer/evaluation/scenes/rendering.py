"""Rendering of target views and their metrics, a few views at a time, to bound the memory."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from openrayzer.evaluation.metrics.image_baselines import exchanged_targets, mean_context, nearest_context
from openrayzer.evaluation.metrics.image_scores import ImageScores
from openrayzer.evaluation.placements import PlacedViews
from openrayzer.interfaces import Model
from openrayzer.machine import FittingBatches
from openrayzer.types import Cameras, Scene, Views

EXCHANGED = "exchanged_cameras"
"""``<placement>_exchanged_cameras`` is the method that renders each target with the camera of another target."""
BASELINES: Mapping[str, Callable[[Views], Tensor]] = {"nearest_context": nearest_context, "mean_context": mean_context}
"""Predictions without a model, by the name of their method."""


@dataclass
class RenderingTime:
    """The time of renderings.

    Attributes:
        views: number of rendered views.
        seconds: their time, until the device has finished.
    """

    views: int = 0
    seconds: float = 0.0

    @contextmanager
    def of(self, cameras: Cameras) -> Iterator[None]:
        """Add the time of the ``with`` block, which renders the views of ``cameras``."""
        _wait_for(cameras.c2w.device)
        begin = time.perf_counter()
        yield
        _wait_for(cameras.c2w.device)
        self.seconds += time.perf_counter() - begin
        self.views += cameras.c2w.shape[:2].numel()


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@dataclass(frozen=True)
class Rendered:
    """Metrics and some images of the targets of a batch.

    Attributes:
        scores: method -> metric -> values (b, vt).
        shown: placement -> images of some targets, (b, s, 3, h, w) on the CPU.
    """

    scores: dict[str, dict[str, Tensor]]
    shown: dict[str, Tensor]


def render_and_judge(
    model: Model,
    views: Views,
    placed: Mapping[str, PlacedViews],
    scores: ImageScores,
    *,
    scenes: Mapping[str, Scene],
    autocast: Callable[[], AbstractContextManager] = nullcontext,
    batches: FittingBatches | None = None,
    shown: tuple[int, ...] = (),
    exchanged: bool = True,
    free: Mapping[str, Callable[[Views], Tensor]] = BASELINES,
    clock: RenderingTime | None = None,
) -> Rendered:
    """Render all targets with the cameras of each placement, and measure them beside the baselines.

    Args:
        model: in evaluation mode, on the device of ``views``.
        views: the batch.
        placed: cameras by placement.
        scores: the metrics.
        scenes: the reconstructed scene of each placement.
        autocast: precision of the model; metrics are computed outside of it.
        batches: how many targets of each scene are rendered together; None for all.
        shown: positions of the targets to return as images.
        exchanged: whether to render with exchanged target cameras as well.
        free: predictions without a model to measure as well.
        clock: counts the rendered views and their time; None: nobody needs them.

    Raises:
        InputError: memory does not suffice for one target.
    """
    targets = torch.arange(views.target.shape[1])
    wanted = torch.tensor(shown, dtype=torch.int64)
    clock = clock or RenderingTime()

    def judged(some: slice) -> Rendered:
        chunk = targets[some]
        part = replace(views, target=views.target[:, chunk])
        target, values, kept = part.target_images, {}, {}
        for name, each in placed.items():
            for method, cameras in _cameras_of(name, each.target, chunk, exchanged=exchanged):
                with autocast(), clock.of(cameras):
                    images = model.render(scenes[name], cameras)
                values[method] = scores(images, target)
                if method == name and shown:
                    kept[name] = images[:, torch.isin(chunk, wanted)].float().cpu()
        for method, baseline in free.items():
            values[method] = scores(baseline(part), target)
        return Rendered(values, kept)

    if batches is None:
        return judged(slice(None))
    b, count, _, height, width = views.context_images.shape
    advice = f"{b} scene(s) of {count} context views of {width} x {height} pixels; take fewer, or smaller images"
    return _joined(list(batches.each(len(targets), judged, advice=advice, like=(b, count, height, width, exchanged))))


def _joined(parts: Sequence[Rendered]) -> Rendered:
    """One ``Rendered`` of consecutive targets."""
    first = parts[0]
    scores = {
        method: {metric: torch.cat([part.scores[method][metric] for part in parts], dim=1) for metric in metrics}
        for method, metrics in first.scores.items()
    }
    return Rendered(scores, {name: torch.cat([part.shown[name] for part in parts], dim=1) for name in first.shown})


def _cameras_of(
    name: str, cameras: Cameras, chunk: Int[Tensor, " s"], *, exchanged: bool
) -> Iterator[tuple[str, Cameras]]:
    """The methods of a placement, each with the cameras that render the targets ``chunk``."""
    count = cameras.num_views
    yield name, _chosen(cameras, chunk)
    if exchanged and count > 1:
        yield f"{name}_{EXCHANGED}", _chosen(cameras, exchanged_targets(count)[chunk])


def _chosen(cameras: Cameras, views: Int[Tensor, " s"]) -> Cameras:
    """The cameras at the same positions ``views`` of every batch element."""
    return Cameras(cameras.c2w[:, views], cameras.intrinsics[:, views])


def all_cameras(views: Views, placed: PlacedViews) -> Cameras:
    """The cameras of one placement in the order of the view axis. A view that is context and target has the camera of
    the context."""
    batch, count = views.frames.shape
    c2w: Float[Tensor, "b v 4 4"] = placed.context.c2w.new_zeros(batch, count, 4, 4)
    intrinsics: Float[Tensor, "b v 4"] = placed.context.intrinsics.new_zeros(batch, count, 4)
    rows = torch.arange(batch, device=views.frames.device)[:, None]
    for where, cameras in ((views.target, placed.target), (views.context, placed.context)):
        c2w[rows, where], intrinsics[rows, where] = cameras.c2w, cameras.intrinsics
    return Cameras(c2w, intrinsics)
