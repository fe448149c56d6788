"""Whether a model is better than each baseline: differences paired by scene, and lines about them."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from openrayzer.evaluation.metrics.intervals import paired_difference
from openrayzer.evaluation.report.names import EXCHANGED
from openrayzer.evaluation.results.scene_result import SceneResult
from openrayzer.interfaces import METRICS

POSES = ("rpa@15", "rpa@30")
"""Compared pose metrics."""
_NAMED_POSES = "rpa@15"
_NOT_COMPARED = ("colmap_registered", "constant_pose", "random_poses")
"""The first counts fewer pairs of views than the other methods; the RPA of the others is near 0 on every clip."""


def against_baselines(
    results: Sequence[SceneResult], placements: Sequence[str], metrics: Sequence[str], *, seed: int
) -> dict[str, Any]:
    """Placement -> metric -> baseline -> difference (model minus baseline) over the scenes that both have.

    ``better`` is true if the whole 95 % interval of the difference is on the better side of 0.

    Args:
        results: of all scenes.
        placements: names of the placements of the model.
        metrics: names of the image metrics.
        seed: of the bootstrap.
    """
    table: dict[str, Any] = {}
    for placement in placements:
        for metric in (*metrics, *POSES):
            values = _values(results, metric)
            for baseline in values:
                if placement in values and _comparable(baseline, placement, placements):
                    row = paired_difference(values[placement], values[baseline], seed=seed)
                    if row.scenes:
                        entry = {"mean": row.mean, "low": row.low, "high": row.high, "scenes": row.scenes}
                        entry["better"] = _is_better(metric, row.low, row.high)
                        table.setdefault(placement, {}).setdefault(metric, {})[baseline] = entry
    return table


def verdicts(table: Mapping[str, Any]) -> Iterator[str]:
    """One line per placement for the first image metric, and one for the poses, with 95 % intervals of differences."""
    for placement, metrics in table.items():
        first = next(iter(metrics))
        for metric in dict.fromkeys((first, _NAMED_POSES)):
            rows = metrics.get(metric, {})
            better = [f"{name} ({_interval(row)})" for name, row in rows.items() if row["better"]]
            others = [f"{name} ({_interval(row)})" for name, row in rows.items() if not row["better"]]
            parts = [f"better than {', '.join(better)}"] if better else []
            parts += [f"not shown to be better than {', '.join(others)}"] if others else []
            if parts:
                yield f"{placement}, {metric}: {'; '.join(parts)}"


def _values(results: Sequence[SceneResult], metric: str) -> dict[str, dict[str, float]]:
    """Method -> scene -> finite value."""
    table: dict[str, dict[str, float]] = {}
    for result in results:
        if metric in POSES:
            row = {method: values.get(metric) for method, values in result.poses.items()}
        else:
            row = {method: result.mean(method, metric) for method in result.images}
        for method, value in row.items():
            if value is not None and math.isfinite(value):
                table.setdefault(method, {})[result.scene] = value
    return table


def _comparable(baseline: str, placement: str, placements: Sequence[str]) -> bool:
    """Whether a method is a baseline, and not one of another placement."""
    if baseline in placements or baseline in _NOT_COMPARED or baseline.endswith(EXCHANGED):
        return False
    return not any(baseline.endswith(f"_{other}") for other in placements if other != placement)


def _is_better(metric: str, low: float | None, high: float | None) -> bool:
    if low is None or high is None:
        return False
    return high < 0 if metric in METRICS and METRICS[metric].better == "lower" else low > 0


def _interval(row: Mapping[str, Any]) -> str:
    return f"{row['mean']:+.2f} in one scene" if row["low"] is None else f"{row['low']:+.2f} to {row['high']:+.2f}"
