"""One batch of scenes, measured: the model from each placement beside what costs nothing."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor

from openrayzer.evaluation.metrics.image_scores import ImageScores
from openrayzer.evaluation.placements import PLACEMENTS, PlacedViews
from openrayzer.evaluation.results.scene_result import Row, SceneResult
from openrayzer.evaluation.scenes.rendering import Rendered, all_cameras, render_and_judge
from openrayzer.evaluation.scenes.scene_cameras import camera_baselines, judged_poses, written_cameras
from openrayzer.evaluation.scenes.scene_pictures import Extremes, draw, drawn_views
from openrayzer.interfaces import Model
from openrayzer.machine import FittingBatches
from openrayzer.types import Cameras, Views


@dataclass(frozen=True)
class Measurer:
    """What measures batches.

    Attributes:
        model: in evaluation mode.
        placements: names of the ways to place targets; scenes are ranked by the first.
        scores: the image metrics.
        autocast: around what the model does.
        batches: how many target views of each scene are rendered and judged together.
        numbers: place of each scene among all.
        extremes: which scenes are drawn besides the first ones.
        with_cameras: whether scenes without pictures hold their cameras, too.
    """

    model: Model
    placements: Sequence[str]
    scores: ImageScores
    autocast: Callable[[], AbstractContextManager]
    batches: FittingBatches
    numbers: dict[str, int]
    extremes: Extremes
    with_cameras: bool = True

    @torch.no_grad()
    def __call__(self, views: Views) -> list[SceneResult]:
        """One result per scene of the batch.

        Raises:
            InputError: the model cannot take such views.
            UnposedInputError: it needs cameras and there are none.
        """
        placed = self.place(views)
        shown = drawn_views(views.target.shape[1])
        rendered = self.judge(views, placed, shown=shown)
        results = []
        for row, scene in enumerate(views.scenes):
            result = SceneResult(
                scene=scene,
                number=self.numbers[scene],
                context=frames_at(views, views.context, row),
                target=frames_at(views, views.target, row),
                images=rows_of(rendered, row),
            )
            result.poses = self.pose_table(views, placed, row)
            self._draw(result, views, rendered, row, shown)
            if self.with_cameras or result.pictures:
                self._add_cameras(result, views, placed, row)
            results.append(result)
        return results

    def place(self, views: Views) -> dict[str, PlacedViews]:
        """The cameras of each placement."""
        with self.autocast():
            return {name: PLACEMENTS[name](self.model, views) for name in self.placements}

    def judge(
        self, views: Views, placed: dict[str, PlacedViews], *, shown: tuple[int, ...] = (), exchanged: bool = True
    ) -> Rendered:
        """Render and judge all targets."""
        return render_and_judge(
            self.model,
            views,
            placed,
            self.scores,
            autocast=self.autocast,
            batches=self.batches,
            shown=shown,
            exchanged=exchanged,
        )

    def pose_table(self, views: Views, placed: dict[str, PlacedViews], row: int) -> dict[str, dict[str, float]]:
        """Pose metrics of one scene by method; empty without true cameras, and for a model that is given poses."""
        if views.cameras is None or self.model.posed:
            return {}
        estimated = {name: row_of(all_cameras(views, each), row) for name, each in placed.items()}
        free = {name: row_of(cameras, row) for name, cameras in camera_baselines(views).items()}
        return judged_poses(estimated, row_of(views.cameras, row), free)

    def _add_cameras(self, result: SceneResult, views: Views, placed: dict[str, PlacedViews], row: int) -> None:
        estimated = {name: row_of(all_cameras(views, each), row) for name, each in placed.items()}
        true = None if views.cameras is None else row_of(views.cameras, row)
        result.cameras = written_cameras(estimated, true, views.frames[row].tolist())

    def _draw(self, result: SceneResult, views: Views, rendered: Rendered, row: int, shown: tuple[int, ...]) -> None:
        quality = result.mean(self.placements[0], "psnr")
        if self.extremes.first == 0 or quality is None or not self.extremes.wants(result.number, quality):
            return
        draw(
            result,
            context=views.context_images[row].cpu(),
            target=views.target_images[row][list(shown)].cpu(),
            rendered={name: images[row] for name, images in rendered.shown.items()},
            shown=shown,
        )
        self.extremes.add(result, quality)


def frames_at(views: Views, places: Tensor, row: int) -> list[int]:
    """Frame numbers at some places of a scene's view axis."""
    return views.frames[row, places[row]].tolist()


def rows_of(rendered: Rendered, row: int) -> dict[str, Row]:
    """One scene's values: method to metric to a list."""
    return {
        method: {metric: values[row].tolist() for metric, values in metrics.items()}
        for method, metrics in rendered.scores.items()
    }


def row_of(cameras: Cameras, row: int) -> Cameras:
    """One scene's cameras, (1, v), on the CPU."""
    return Cameras(cameras.c2w[row : row + 1].cpu(), cameras.intrinsics[row : row + 1].cpu())
