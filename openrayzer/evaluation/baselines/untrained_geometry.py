"""Baseline ``sfm``: the model ``rayzer_geometric`` with its default parts and its initial weights."""

import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from openrayzer.composer.build import construct, plan
from openrayzer.evaluation.baselines.baseline import Baseline, BaselineResult
from openrayzer.evaluation.metrics.image_scores import ImageScores
from openrayzer.evaluation.placements import PLACEMENTS, PlacedViews
from openrayzer.evaluation.scenes.measuring import Measurer, row_of, rows_of
from openrayzer.evaluation.scenes.rendering import all_cameras, render_and_judge
from openrayzer.evaluation.scenes.scene_cameras import pose_row
from openrayzer.evaluation.scenes.scene_pictures import Extremes
from openrayzer.geometry.focus import extent_of
from openrayzer.interfaces import REGISTRIES, InputError, Model
from openrayzer.machine import FittingBatches
from openrayzer.types import Cameras, Views

_SPEC = {
    "type": "rayzer_geometric",
    "matcher": {"type": "patch_correlation"},
    "solver": {"type": "bundle_adjustment"},
    "renderer": {"type": "plane_sweep"},
}
_SEED = 0


def untrained_geometry() -> Model:
    """The untrained model, in evaluation mode on the CPU; its weights are always the same."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_SEED)
        model: Model = construct(plan(_SPEC, Model, registries=REGISTRIES, path="model"))
    return model.eval()


class UntrainedGeometry(Baseline):
    """Cameras by matches and bundle adjustment, views by a plane sweep. Nothing is learned.

    Its methods are ``sfm_<placement>``. For a model that is given poses, the plane sweep uses the true cameras, and
    there are no pose metrics. The precision is float32, whatever the precision of the evaluated model.

    Args:
        model: from ``untrained_geometry``, on the device of the views.
        placements: names of the placements of the evaluated model.
        scores: the image metrics.
        batches: how many targets are rendered together.
    """

    name = "sfm"
    description = (
        "rayzer_geometric with its initial weights: cameras by matches and bundle adjustment, views by a plane sweep; "
        "nothing is learned."
    )
    swept = has_depth = True

    def __init__(
        self, model: Model, *, placements: Sequence[str], scores: ImageScores, batches: FittingBatches
    ) -> None:
        super().__init__()
        self.model, self.placements, self.scores, self.batches = model, tuple(placements), scores, batches
        self.depth = Measurer(model, placements, scores, nullcontext, batches, {}, Extremes(first=0)).depth_table

    @torch.no_grad()
    def measure(self, views: Views) -> list[BaselineResult]:
        placed, found, seconds = {}, {}, []
        for name in self.placements:
            started = time.monotonic()
            each = placed[f"{self.name}_{name}"] = self._placed(name, views)
            found[f"{self.name}_{name}"] = all_cameras(views, each).to("cpu")  # waits for a GPU
            seconds.append(time.monotonic() - started)
        scenes = {name: self.model.prepare(each.scene_of(self.model, views)) for name, each in placed.items()}
        rendered = render_and_judge(
            self.model, views, placed, self.scores, scenes=scenes, batches=self.batches, exchanged=False, free={}
        )
        numbers = {"seconds": seconds[0] / len(views.scenes)}
        return [
            BaselineResult(
                rows_of(rendered, row),
                self._poses(found, views, row),
                self.depth(views, placed, scenes, row),
                dict(numbers),
            )
            for row in range(len(views.scenes))
        ]

    def _placed(self, name: str, views: Views) -> PlacedViews:
        if PLACEMENTS[name].posed and views.cameras is not None:
            return self._with_true_cameras(views, views.cameras)
        return PLACEMENTS[name](self.model, views)

    def _with_true_cameras(self, views: Views, true: Cameras) -> PlacedViews:
        """The true cameras in the unit of length of the solver, because the planes have fixed depths in this unit.

        The solver sees only the context views.

        Raises:
            InputError: there is a single context view, so that no distance is known.
        """
        if views.context.shape[1] < 2:
            raise InputError(
                "with true cameras, the plane sweep needs 2 context views or more to find its unit of length"
            )
        known = true.select(views.context)
        scale = _ratio(self.model.estimate(views.context_images, known.intrinsics).c2w, known.c2w)
        c2w = true.c2w.clone()
        c2w[..., :3, 3] *= scale[:, None, None]
        scaled = replace(true, c2w=c2w)
        return PlacedViews(scaled.select(views.context), scaled.select(views.target), views.context)

    def _poses(self, found: dict[str, Cameras], views: Views, row: int) -> dict[str, dict[str, float]]:
        if views.cameras is None or PLACEMENTS[self.placements[0]].posed:
            return {}
        true = row_of(views.cameras, row)
        return {method: pose_row(row_of(cameras, row), true) for method, cameras in found.items()}


def _ratio(first: Float[Tensor, "b v 4 4"], second: Float[Tensor, "b v 4 4"]) -> Float[Tensor, " b"]:
    """Extent of the first centres over that of the second; 1 if one of them is no extent."""
    one, other = extent_of(first), extent_of(second)
    usable = (one > 0) & (other > 0) & one.isfinite()
    return torch.where(usable, one / torch.where(usable, other, 1.0), 1.0).to(second.dtype)
