"""Tables of the report: summary, difference of placements, poses, depth, number of context views."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from openrayzer.evaluation.report.cells import Cell, Row, Table, column_label, interval_cell, value_of
from openrayzer.evaluation.report.evaluation_folder import Results, number
from openrayzer.evaluation.report.names import DASH, kind, method, written

PIXELS = {
    "none": "no target pixels used",
    "own_pose": "target pixels used for their own pose only",
    "all_poses": "target pixels used for all poses",
}
"""Use of the target images by a placement, in few words."""
SWEPT_POSES = ("rotation_error_deg", "translation_error", "auc@30")
"""Pose metrics that the table of the views sweep shows beside all image metrics; the others are in metrics.json."""


def summary_table(results: Results) -> Table:
    """Methods by metrics: means over scenes with their intervals; placements first, then baselines."""
    summary, names = results.values["summary"], results.metrics()
    methods = [name for name in results.placements if name in summary]
    methods += [name for name in summary if name not in methods]
    best = {
        name: _best(results, name, {key: summary[key].get(name) for key in results.placements if key in summary})
        for name in names
    }
    rows = tuple(
        Row(
            method(key),
            tuple(_summary_cell(results, summary[key].get(name), name, best=best[name] == key) for name in names),
            kind(key, results.placements),
            _pixels(results, key),
        )
        for key in methods
    )
    return Table(tuple(column_label(results.style(name)) for name in names), rows, _reasons(results, names, rows))


def difference_table(results: Results) -> Table:
    """Differences of placements, paired by scene."""
    differences = results.section("differences")
    names = list(dict.fromkeys(name for row in differences.values() for name in row))
    rows = tuple(
        Row(
            " minus ".join(method(side) for side in key.split("_minus_")),
            tuple(interval_cell(row.get(name), results.style(name).decimals, sign=True) for name in names),
            note=f"over {count} scenes" if (count := _scenes(row)) else "",
        )
        for key, row in differences.items()
    )
    return Table(tuple(results.style(name).label for name in names), rows)


def baseline_tables(results: Results) -> list[Table]:
    """One table per placement: its differences to the baselines, in bold where the placement is better."""
    tables = []
    for placement, metrics in results.section("against_baselines").items():
        rows = tuple(
            Row(method(key), tuple(_difference_cell(results, name, row.get(key)) for name, row in metrics.items()))
            for key in dict.fromkeys(key for row in metrics.values() for key in row)
        )
        columns = tuple(column_label(results.style(name)) for name in metrics)
        tables.append(Table(columns, rows, title=f"{method(placement)} minus baseline"))
    return tables


def pose_table(results: Results) -> Table:
    """Pose metrics by methods: the placements, then the baselines."""
    return _by_metric(results, "poses", "true cameras")


def depth_table(results: Results) -> Table:
    """Depth metrics by placements."""
    return _by_metric(results, "depth", "true depth")


def gaussian_table(results: Results) -> Table:
    """Numbers of Gaussians by placements."""
    return _by_metric(results, "gaussians", "Gaussians")


def _by_metric(results: Results, section: str, needs: str) -> Table:
    values = results.section(section)
    names = list(dict.fromkeys(name for row in values.values() for name in row))
    counts = {count for row in values.values() if (count := _scenes(row))}
    rows = tuple(
        Row(
            column_label(results.style(name)),
            tuple(_pose_cell(row.get(name), results.style(name).decimals) for row in values.values()),
        )
        for name in names
    )
    notes = (f"Means over {max(counts)} scenes that have {needs}.",) if counts else ()
    return Table(tuple(method(key) for key in values), rows, notes)


def sweep_table(results: Results) -> Table:
    """One row per method and number of context views."""
    sweep = results.values.get("views_sweep") or []
    columns = sweep_columns(results)
    names = list(dict.fromkeys(name for _, name in columns))
    rows = []
    for key in dict.fromkeys(key for key, _ in columns):
        for entry in sweep:
            values = entry.get(key) or {}
            cells = tuple(interval_cell(values.get(name), results.style(name).decimals) for name in names)
            count = Cell(f"{entry['num_context']}")
            rows.append(Row(method(key), (count, *cells), kind(key, results.placements)))
    return Table(("context views", *(column_label(results.style(name)) for name in names)), tuple(rows))


def sweep_columns(results: Results) -> list[tuple[str, str]]:
    """Pairs of method and metric of the views sweep, by metric: the image metrics, then ``SWEPT_POSES``."""
    sweep = results.values.get("views_sweep") or []
    pairs = dict.fromkeys(
        (key, name)
        for entry in sweep
        for key, values in entry.items()
        if isinstance(values, Mapping)
        for name in values
        if value_of(values[name]) is not None
    )
    metrics = list(dict.fromkeys(name for _, name in pairs))
    shown = [name for name in (*results.metrics(), *SWEPT_POSES) if name in metrics] or metrics
    return sorted((pair for pair in pairs if pair[1] in shown), key=lambda pair: shown.index(pair[1]))


def pixel_use(placement: Mapping[str, Any]) -> str:
    """Key of ``PIXELS`` for a placement; without ``mixes_target_pixels``, a placement counts as mixing."""
    if not placement.get("uses_target_pixels"):
        return "none"
    return "all_poses" if placement.get("mixes_target_pixels", True) else "own_pose"


def _summary_cell(results: Results, values: Mapping[str, Any] | None, name: str, *, best: bool) -> Cell:
    if values is None or number(values.get("mean")) is None:
        return Cell(DASH, reason=_why_none(results, values, name))
    decimals = results.style(name).decimals
    cell = interval_cell(values, decimals)
    details = list(cell.detail)
    without = number(values.get("mean_without_context_targets"))
    if without is not None and results.section("targets").get("equal_to_a_context"):
        details.append(f"{written(without, decimals)} *")
    if values.get("not_finite"):
        details.append(f"{values['not_finite']} not finite, left out")
    return Cell(cell.text, tuple(details), best=best)


def _why_none(results: Results, values: Mapping[str, Any] | None, name: str) -> str:
    if values and values.get("not_finite"):
        return f"not finite in {values['not_finite']} scenes"
    missing = (results.section("metrics").get(name) or {}).get("missing")
    return str(missing or "not measured")


def _difference_cell(results: Results, name: str, values: Mapping[str, Any] | None) -> Cell:
    cell = interval_cell(values, results.style(name).decimals, sign=True)
    return replace(cell, best=bool(values and values.get("better")))


def _pose_cell(values: object, decimals: int) -> Cell:
    cell = interval_cell(values, decimals)
    left_out = values.get("not_finite") if isinstance(values, Mapping) else None
    return replace(cell, detail=(*cell.detail, f"{left_out} not finite, left out")) if left_out else cell


def _best(results: Results, name: str, column: Mapping[str, Mapping[str, Any] | None]) -> str:
    """The placement with the best mean; empty if there is only one placement."""
    means = {key: mean for key, values in column.items() if (mean := value_of(values)) is not None}
    better = results.style(name).better
    if len(means) < 2 or not better:
        return ""
    return (max if better == "higher" else min)(means, key=means.__getitem__)


def _pixels(results: Results, key: str) -> str:
    placement = results.values["placements"].get(key)
    return "" if placement is None else PIXELS[pixel_use(placement)]


def _reasons(results: Results, names: list[str], rows: tuple[Row, ...]) -> tuple[str, ...]:
    """One sentence per metric and reason for a dash."""
    pairs = dict.fromkeys(
        (name, cell.reason) for row in rows for name, cell in zip(names, row.cells, strict=True) if cell.reason
    )
    return tuple(
        f"{DASH} in {results.style(name).label}: {reason}" for name, reason in pairs if reason != "not measured"
    )


def _scenes(row: Mapping[str, Any]) -> int | None:
    counts = [values["scenes"] for values in row.values() if isinstance(values, Mapping) and "scenes" in values]
    return max(counts, default=None)
