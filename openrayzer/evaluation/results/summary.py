"""Tables of metrics.json and per_view.csv. Values that are not finite are null; means omit them, counts report them."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from openrayzer.evaluation.metrics.intervals import mean_over_scenes, paired_difference
from openrayzer.evaluation.results.scene_result import SceneResult

SECONDS = "seconds"
"""The number of a baseline that differs between equal evaluations."""
COLUMNS = ("scene", "frame", "equals_context", "method")
"""First columns of per_view.csv; the metrics follow. Each line is one target view of one scene and one method."""


def summary(results: Sequence[SceneResult], metrics: Sequence[str], *, seed: int) -> dict[str, dict[str, Any]]:
    """Method -> metric -> mean over views, then over scenes, with its spread.

    A scene with a view that is not finite is in no mean and counts in ``not_finite``. A metric that was not computed
    has no mean, and no scene of it counts.
    """
    table: dict[str, dict[str, Any]] = {}
    for method in _methods(results):
        table[method] = {}
        for metric in metrics:
            values = [value for result in results if (value := result.mean(method, metric)) is not None]
            others = [result.mean(method, metric, without_context_targets=True) for result in results]
            without = mean_over_scenes([value for value in others if value is not None], seed=seed)
            row = asdict(mean_over_scenes(values, seed=seed))
            table[method][metric] = row | {"mean_without_context_targets": without.mean}
    return table


def differences(results: Sequence[SceneResult], metrics: Sequence[str], *, seed: int) -> dict[str, dict[str, Any]]:
    """``joint`` minus ``context_only``, paired by scene: the effect of the pixels of other targets."""
    if not {"joint", "context_only"} <= set(_methods(results)):
        return {}
    columns: dict[str, Any] = {}
    for metric in metrics:
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
    """Method -> pose metric -> mean over the scenes that define it, and the number of scenes that do not."""
    return _means([result.poses for result in results if result.poses])


def gaussian_summary(results: Sequence[SceneResult]) -> dict[str, dict[str, Any]]:
    """The same for numbers of Gaussians, over all scenes of a model with Gaussians."""
    return _means([result.gaussians for result in results if result.gaussians])


def depth_summary(results: Sequence[SceneResult]) -> dict[str, dict[str, Any]]:
    """The same for depth metrics, over the scenes with true depth."""
    return _means([result.depth for result in results if result.depth])


def _means(tables: Sequence[Mapping[str, Mapping[str, float]]]) -> dict[str, dict[str, Any]]:
    names = {method: list(row) for table in tables for method, row in table.items()}
    means: dict[str, dict[str, Any]] = {}
    for method, metrics in names.items():
        means[method] = {}
        for metric in metrics:
            row = mean_over_scenes([table[method][metric] for table in tables if method in table], seed=0)
            means[method][metric] = {"mean": row.mean, "scenes": row.scenes, "not_finite": row.not_finite}
    return means


def sweep_table(results: Sequence[SceneResult], metrics: Sequence[str]) -> list[dict[str, Any]] | None:
    """One entry per number of context views: method -> metric -> mean over the scenes; None without a views sweep.

    Pose metrics are means over the scenes with true cameras. ``not_finite`` counts the scenes with an image metric that
    is not finite.

    Args:
        results: of all scenes.
        metrics: names of the image metrics.
    """
    counts = sorted({count for result in results for count in result.sweep})
    table = []
    for count in counts:
        rows = [result.sweep[count] for result in results if count in result.sweep]
        broken = sum(_is_broken(row, metrics) for row in rows)
        entry: dict[str, Any] = {"num_context": count, "scenes": len(rows), "not_finite": broken}
        for method in dict.fromkeys(method for row in rows for method in row):
            having = [row[method] for row in rows if method in row]
            names = dict.fromkeys(name for row in having for name in row)
            entry[method] = {
                name: mean_over_scenes([row[name] for row in having if name in row], seed=0).mean for name in names
            }
        table.append(entry)
    return table or None


def _is_broken(row: Mapping[str, Mapping[str, float]], metrics: Sequence[str]) -> bool:
    """Whether an image metric is not finite. Pose metrics do not count, because some scenes do not define them."""
    return any(
        name in metrics and not math.isfinite(value) for values in row.values() for name, value in values.items()
    )


def counted_targets(results: Sequence[SceneResult], placements: Sequence[str], expected: int) -> dict[str, int]:
    """Numbers of targets: expected, evaluated, equal to a context view, and not finite with some placement."""
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


def scene_entry(result: SceneResult, metrics: Sequence[str]) -> dict[str, Any]:
    """The entry of one scene in metrics.json."""
    means = {method: {metric: _plain(result.mean(method, metric)) for metric in metrics} for method in result.images}
    entry: dict[str, Any] = {
        "number": result.number,
        "context": result.context,
        "target": result.target,
        "metrics": means,
        "poses": _plain_table(result.poses),
    }
    optional = {
        "depth": _plain_table(result.depth),
        "gaussians": _plain_table(result.gaussians),
        "baselines": {name: row for name, numbers in result.baselines.items() if (row := _without_seconds(numbers))},
        "cameras": result.cameras,
        "gaussian_centres": result.centres,
        "pictures": result.pictures,
    }
    return entry | {name: value for name, value in optional.items() if value}


def per_view_lines(results: Sequence[SceneResult], metrics: Sequence[str]) -> str:
    """The text of per_view.csv."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*COLUMNS, *metrics])
    for result in results:
        for method, row in result.images.items():
            for position, (frame, same) in enumerate(zip(result.target, result.equals_context, strict=True)):
                values = [_plain(row[metric][position]) if metric in row else None for metric in metrics]
                writer.writerow([result.scene, frame, int(same), method, *values])
    return text.getvalue()


def _methods(results: Sequence[SceneResult]) -> list[str]:
    return list(dict.fromkeys(method for result in results for method in result.images))


def _without_seconds(numbers: Mapping[str, float]) -> dict[str, float]:
    """The numbers that equal evaluations share."""
    return {name: value for name, value in numbers.items() if name != SECONDS}


def _plain_table(table: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, float | None]]:
    return {method: {name: _plain(value) for name, value in row.items()} for method, row in table.items()}


def _plain(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else value
