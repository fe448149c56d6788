"""Evaluation while training: the model beside what costs nothing, on views that never change.

Baselines: the context view that is nearest in frame number, the mean of the context views, and the model itself with
the target cameras of each scene exchanged among its targets. A model that ignores its cameras matches the last.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor

from openrayzer.data.loading.held_out_clips import EvaluationClips
from openrayzer.evaluation.metrics.image_baselines import mean_context, nearest_context, shuffled
from openrayzer.evaluation.metrics.image_metrics import PERFECT, psnr
from openrayzer.interfaces import Model
from openrayzer.machine.writing import write_or_warn
from openrayzer.training.engine import Engine
from openrayzer.types import Views


@dataclass
class Tables:
    """What one process measured: the metrics of each scene, and what went wrong."""

    metrics: dict[str, dict[str, float]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def evaluate(engine: Engine, clips: EvaluationClips, *, folder: Path) -> dict[str, Any]:
    """Measure every scene of ``clips`` once and write metrics.json and index.json into ``folder``.

    Args:
        engine: the model in training.
        clips: this process's share of the held-out clips.
        folder: the run's ``evaluation``; written by rank 0.

    Returns:
        The record for metrics.jsonl: means over scenes of the mean over target views, in dB.
    """
    tables = Tables()
    with engine.evaluating() as model:
        for views in clips:
            measure(model, views.to(engine.process.device), tables)
    parts = engine.process.gather((tables.metrics, tables.problems, clips.skipped))
    metrics = {key: values for part in parts for key, values in part[0].items()}
    skipped = {skip.scene: skip.reason for part in parts for skip in part[2]}
    record = {"step": engine.steps, "split": "test"} | _means(metrics)
    record |= {"expected": clips.expected, "evaluated": len(metrics), "skipped_scenes": len(skipped)}
    record["target_pixels_used_for_cameras"] = not engine.model.posed
    if engine.process.is_first:
        details = record | {"problems": [problem for part in parts for problem in part[1]], "skipped": skipped}
        _write(folder / "metrics.json", details | {"scenes": dict(sorted(metrics.items()))})
        _write(folder / "index.json", {**clips.index(), **dict.fromkeys(skipped)})
    return record


def measure(model: Model, views: Views, tables: Tables) -> None:
    """Add the scenes of one batch to ``tables``."""
    cameras = model.cameras_of(views)
    scene = model.reconstruct(views.context_images, cameras.select(views.context), views.context)
    images = {"psnr": model.render(scene, cameras.select(views.target))}
    images["psnr_nearest_context"] = nearest_context(views)
    images["psnr_mean_context"] = mean_context(views)
    if (count := views.target.shape[1]) > 1:
        images["psnr_shuffled_cameras"] = model.render(scene, cameras.select(views.target[:, shuffled(count)]))
    values = {name: _scene_psnr(image, views.target_images) for name, image in images.items()}
    for row, key in enumerate(views.scenes):
        tables.metrics[key] = {name: column[row] for name, column in values.items()}
    tables.problems += views.problems


def _scene_psnr(images: Float[Tensor, "b vt 3 h w"], target: Float[Tensor, "b vt 3 h w"]) -> list[float]:
    """Mean over the target views, for each scene; an exact copy counts as ``PERFECT``."""
    return psnr(images.float(), target).clamp(max=PERFECT).mean(dim=1).tolist()


def _means(metrics: dict[str, dict[str, float]]) -> dict[str, float]:
    """Of each metric over the scenes that have it; in name order of scenes, so that the sum never varies."""
    names = dict.fromkeys(name for values in metrics.values() for name in values)
    columns = {name: [metrics[key][name] for key in sorted(metrics) if name in metrics[key]] for name in names}
    return {name: sum(column) / len(column) for name, column in columns.items()}


def _write(file: Path, content: Any) -> None:
    text = json.dumps(content, indent=1)
    write_or_warn(file, lambda temporary: temporary.write_text(text, encoding="utf-8"))
