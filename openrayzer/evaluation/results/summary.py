"""From single scenes to metrics.json and per_view.csv. What is not finite is null, counted, and in no mean."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from openrayzer.evaluation.metrics.image_scores import METRICS
from openrayzer.evaluation.metrics.intervals import mean_over_scenes, paired_difference
from openrayzer.evaluation.results.scene_result import SceneResult

COLUMNS = ("scene", "frame", "equals_context", "method", *METRICS)
"""Of per_view.csv; one line per scene, target view and method."""


def summary(results: Sequence[SceneResult], *, seed: int) -> dict[str, dict[str, Any]]:
    """Each method's metrics: mean over views, then over scenes, in the order of the scenes.

    A scene one of whose views is not finite has no mean and is counted in ``not_finite``. A metric that was not
    computed has none either, and is not counted.
    """
    table: dict[str, dict[str, Any]] = {}
    for method in _methods(results):
        table[method] = {}
        for metric in METRICS:
            values = [value for result in results if (value := result.mean(method, metric)) is not None]
            others = [result.mean(method, metric, without_context_targets=True) for result in results]
            without = mean_over_scenes([value for value in others if value is not None], seed=seed)
            row = asdict(mean_over_scenes(values, seed=seed))
            table[method][metric] = row | {"mean_without_context_targets": without.mean}
    return table


def differences(results: Sequence[SceneResult], *, seed: int) -> dict[str, dict[str, Any]]:
    """``joint`` minus ``context_only``, paired by scene: what the pixels of other targets are worth."""
    if not {"joint", "context_only"} <= set(_methods(results)):
        return {}
    columns: dict[str, Any] = {}
    for metric in METRICS:
        first, second = (
            {
                result.scene: value
                for result in results
                if (value := result.mean(method, metric)) is not None and math.isfinite(value)
            }
            for method in ("joint", "context_only")
        )
        difference = asdict(paired_difference(first, second, seed=seed))
        columns[metric] = {name: difference[name] for name in ("mean", "low", "high", "scenes")}
    return {"joint_minus_context_only": columns}


def pose_summary(results: Sequence[SceneResult]) -> dict[str, dict[str, Any]]:
    """Means over scenes of the pose metrics; a metric that a scene does not define is left out and counted."""
    names = {method: list(row) for result in results for method, row in result.poses.items()}
    table: dict[str, dict[str, Any]] = {}
    for method, metrics in names.items():
        table[method] = {}
        for metric in metrics:
            row = mean_over_scenes([result.poses[method][metric] for result in results if result.poses], seed=0)
            table[method][metric] = {"mean": row.mean, "scenes": row.scenes, "not_finite": row.not_finite}
    return table


def sweep_table(results: Sequence[SceneResult]) -> list[dict[str, Any]] | None:
    """One entry per number of contexts: method to metric to mean over the scenes that have so many.

    Pose metrics are means over those of them that have true cameras; what is not finite is in no mean, and counted.
    """
    counts = sorted({count for result in results for count in result.sweep})
    table = []
    for count in counts:
        rows = [result.sweep[count] for result in results if count in result.sweep]
        entry: dict[str, Any] = {"num_context": count, "scenes": len(rows), "not_finite": sum(map(_is_broken, rows))}
        for method in dict.fromkeys(method for row in rows for method in row):
            having = [row[method] for row in rows if method in row]
            metrics = dict.fromkeys(metric for row in having for metric in row)
            entry[method] = {
                metric: mean_over_scenes([row[metric] for row in having if metric in row], seed=0).mean
                for metric in metrics
            }
        table.append(entry)
    return table or None


def _is_broken(row: Mapping[str, Mapping[str, float]]) -> bool:
    """Whether an image metric is not finite; a pose metric may also be undefined."""
    return any(
        metric in METRICS and not math.isfinite(value) for values in row.values() for metric, value in values.items()
    )


def counted_targets(results: Sequence[SceneResult], placements: Sequence[str], expected: int) -> dict[str, int]:
    """How many targets there were, are context frames, and came out not finite from any placement."""
    broken = 0
    for result in results:
        columns = [values for name in placements for values in result.images[name].values()]
        broken += sum(not all(map(math.isfinite, view)) for view in zip(*columns, strict=True))
    return {
        "expected": expected,
        "evaluated": sum(len(result.target) for result in results),
        "equal_to_a_context": sum(sum(result.equals_context) for result in results),
        "not_finite": broken,
    }


def scene_entry(result: SceneResult) -> dict[str, Any]:
    """What metrics.json says of one scene."""
    metrics = {method: {metric: _plain(result.mean(method, metric)) for metric in METRICS} for method in result.images}
    entry: dict[str, Any] = {
        "number": result.number,
        "context": result.context,
        "target": result.target,
        "metrics": metrics,
        "poses": {method: {name: _plain(value) for name, value in row.items()} for method, row in result.poses.items()},
    }
    optional = {"cameras": result.cameras, "pictures": result.pictures}
    return entry | {name: value for name, value in optional.items() if value}


def per_view_lines(results: Sequence[SceneResult]) -> str:
    """The text of per_view.csv."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for result in results:
        for method, row in result.images.items():
            for place, (frame, same) in enumerate(zip(result.target, result.equals_context, strict=True)):
                values = [_plain(row[metric][place]) if metric in row else None for metric in METRICS]
                writer.writerow([result.scene, frame, int(same), method, *values])
    return text.getvalue()


def _methods(results: Sequence[SceneResult]) -> list[str]:
    return list(dict.fromkeys(method for result in results for method in result.images))


def _plain(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else value
