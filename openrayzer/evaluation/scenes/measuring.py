"""Measurement of one batch of scenes: the model with each placement, beside the baselines."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from openrayzer.evaluation.metrics.depth_metrics import depth_metrics
from openrayzer.evaluation.metrics.image_scores import ImageScores
from openrayzer.evaluation.placements import PLACEMENTS, PlacedViews
from openrayzer.evaluation.results.scene_result import MetricRow, SceneResult, method_means
from openrayzer.evaluation.scenes.gaussian_figures import gaussian_centres, gaussian_numbers
from openrayzer.evaluation.scenes.rendering import Rendered, RenderingTime, all_cameras, render_and_judge
from openrayzer.evaluation.scenes.scene_cameras import alignment, camera_baselines, judged_poses, written_cameras
from openrayzer.evaluation.scenes.scene_pictures import Extremes, draw, drawn_views
from openrayzer.interfaces import METRICS, Model
from openrayzer.machine import FittingBatches
from openrayzer.types import Cameras, Scene, Views

PLANE = "plane"
"""Baseline of depth: a plane before each camera, which the metrics move to the right median depth."""


@dataclass(frozen=True)
class Measurer:
    """Measures batches of scenes.

    Attributes:
        model: in evaluation mode.
        placements: names of the placements; scenes are ranked by the first.
        scores: the image metrics.
        autocast: precision of the model.
        batches: how many targets of each scene are rendered together.
        numbers: position of each scene in the evaluation, by name.
        extremes: decides which scenes are drawn.
        with_cameras: whether the results of scenes without pictures contain their cameras.
        rendering: the time of all renderings so far.
    """

    model: Model
    placements: Sequence[str]
    scores: ImageScores
    autocast: Callable[[], AbstractContextManager]
    batches: FittingBatches
    numbers: dict[str, int]
    extremes: Extremes
    with_cameras: bool = True
    rendering: RenderingTime = field(default_factory=RenderingTime)

    @torch.no_grad()
    def __call__(self, views: Views) -> list[SceneResult]:
        """One result per scene of the batch.

        Raises:
            InputError: the model cannot take such views.
            UnposedInputError: the model needs cameras, and the views have none.
        """
        placed = self.place(views)
        scenes = self.reconstruct(views, placed)
        shown = drawn_views(views.target.shape[1])
        rendered = self.judge(views, placed, scenes, shown=shown)
        results = []
        for row, scene in enumerate(views.scenes):
            result = scene_result(views, rendered, row, number=self.numbers[scene])
            result.quality = self._quality(result)
            result.poses = self.pose_table(views, placed, row)
            result.depth = self.depth_table(views, placed, scenes, row)
            result.gaussians = gaussian_numbers(scenes, row)
            if self.extremes.wants(result):
                self._draw(result, views, rendered, self._maps(placed, scenes, row, shown), row, shown)
                result.centres = self._centres(views, placed, scenes, row)
                self.extremes.add(result)
            if self.with_cameras or result.pictures:
                self._add_cameras(result, views, placed, row)
            results.append(result)
        return results

    @torch.no_grad()
    def means(self, clip: Views) -> dict[str, dict[str, float]]:
        """Method -> metric -> value of one clip, without exchanged cameras, depth and pictures."""
        placed = self.place(clip)
        rendered = self.judge(clip, placed, self.reconstruct(clip, placed), exchanged=False)
        return method_means(rows_of(rendered, 0), self.pose_table(clip, placed, 0))

    def place(self, views: Views) -> dict[str, PlacedViews]:
        """The cameras of each placement."""
        with self.autocast():
            return {name: PLACEMENTS[name](self.model, views) for name in self.placements}

    def reconstruct(self, views: Views, placed: Mapping[str, PlacedViews]) -> dict[str, Scene]:
        """The scene of each placement, prepared for many calls of ``render``."""
        with self.autocast():
            return {name: self.model.prepare(each.scene_of(self.model, views)) for name, each in placed.items()}

    def judge(
        self,
        views: Views,
        placed: Mapping[str, PlacedViews],
        scenes: Mapping[str, Scene],
        *,
        shown: tuple[int, ...] = (),
        exchanged: bool = True,
    ) -> Rendered:
        """Render and measure all targets; see ``render_and_judge``."""
        return render_and_judge(
            self.model,
            views,
            placed,
            self.scores,
            scenes=scenes,
            autocast=self.autocast,
            batches=self.batches,
            shown=shown,
            exchanged=exchanged,
            clock=self.rendering,
        )

    def pose_table(self, views: Views, placed: Mapping[str, PlacedViews], row: int) -> dict[str, dict[str, float]]:
        """Pose metrics of one scene by method; empty without true cameras, and for a model that is given poses."""
        if views.cameras is None or self.model.posed:
            return {}
        estimated = {name: row_of(all_cameras(views, each), row) for name, each in placed.items()}
        free = {name: row_of(cameras, row) for name, cameras in camera_baselines(views).items()}
        return judged_poses(estimated, row_of(views.cameras, row), free)

    def depth_table(
        self, views: Views, placed: Mapping[str, PlacedViews], scenes: Mapping[str, Scene], row: int
    ) -> dict[str, dict[str, float]]:
        """Depth metrics of one scene by method; empty without true depth, or for a model without depth maps."""
        if views.depth is None:
            return {}
        true = views.depth[row, views.target[row]].cpu()
        if not (true > 0).any():
            return {}
        maps = self._maps(placed, scenes, row, tuple(range(len(true))))
        table = {name: depth_metrics(each["depth"][:, 0], true) for name, each in maps.items() if "depth" in each}
        return table | {PLANE: depth_metrics(torch.ones_like(true), true)} if table else {}

    def _add_cameras(self, result: SceneResult, views: Views, placed: Mapping[str, PlacedViews], row: int) -> None:
        estimated = {name: row_of(all_cameras(views, each), row) for name, each in placed.items()}
        true = None if views.cameras is None else row_of(views.cameras, row)
        result.cameras = written_cameras(estimated, true, views.frames[row].tolist())

    def _centres(
        self, views: Views, placed: Mapping[str, PlacedViews], scenes: Mapping[str, Scene], row: int
    ) -> dict[str, Any]:
        true = None if views.cameras is None else row_of(views.cameras, row)
        aligned = {name: alignment(row_of(all_cameras(views, each), row), true) for name, each in placed.items()}
        found = {name: gaussian_centres(scene, row, aligned[name]) for name, scene in scenes.items()}
        return {name: centres for name, centres in found.items() if centres}

    def _quality(self, result: SceneResult) -> float | None:
        """The first metric of the first placement, negated if lower is better."""
        metric = self.scores.available[0]
        value = result.mean(self.placements[0], metric)
        return value if value is None or METRICS[metric].better == "higher" else -value

    def _maps(
        self, placed: Mapping[str, PlacedViews], scenes: Mapping[str, Scene], row: int, shown: tuple[int, ...]
    ) -> dict[str, dict[str, Tensor]]:
        """Placement -> name -> maps (s, c, h, w) of one scene's targets ``shown``, on the CPU."""
        return {name: self._maps_of(each.target, scenes[name], row, shown) for name, each in placed.items()}

    def _maps_of(self, cameras: Cameras, scene: Scene, row: int, shown: tuple[int, ...]) -> dict[str, Tensor]:
        targets = torch.tensor(shown, device=cameras.c2w.device)
        scene = scene if scene.batch_size == 1 else scene.select(targets.new_tensor([row]))

        def rendered(some: slice) -> dict[str, Tensor]:
            views = targets[some]
            chosen = Cameras(cameras.c2w[row : row + 1, views], cameras.intrinsics[row : row + 1, views])
            with self.autocast():
                return {name: maps[0].float().cpu() for name, maps in self.model.render_maps(scene, chosen).items()}

        advice = "maps of the model; take smaller images"
        parts = list(self.batches.each(len(shown), rendered, advice=advice, like=("maps", scene.image_size)))
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

    def _draw(
        self,
        result: SceneResult,
        views: Views,
        rendered: Rendered,
        maps: dict[str, dict[str, Tensor]],
        row: int,
        shown: tuple[int, ...],
    ) -> None:
        draw(
            result,
            context=views.context_images[row].cpu(),
            target=views.target_images[row][list(shown)].cpu(),
            rendered={name: images[row] for name, images in rendered.shown.items()},
            maps=maps,
            shown=shown,
        )


def scene_result(views: Views, rendered: Rendered, row: int, *, number: int) -> SceneResult:
    """The frames and the metrics of one scene of a batch."""
    return SceneResult(
        scene=views.scenes[row],
        number=number,
        context=frames_at(views, views.context, row),
        target=frames_at(views, views.target, row),
        images=rows_of(rendered, row),
    )


def frames_at(views: Views, positions: Tensor, row: int) -> list[int]:
    """Frame numbers of one scene at some positions (b, s) of the view axis."""
    return views.frames[row, positions[row]].tolist()


def rows_of(rendered: Rendered, row: int) -> dict[str, MetricRow]:
    """The metrics of one scene: method -> metric -> one value per target."""
    return {
        method: {metric: values[row].tolist() for metric, values in metrics.items()}
        for method, metrics in rendered.scores.items()
    }


def row_of(cameras: Cameras, row: int) -> Cameras:
    """The cameras of one scene, (1, v), on the CPU."""
    return Cameras(cameras.c2w[row : row + 1].cpu(), cameras.intrinsics[row : row + 1].cpu())
