"""Tables of an evaluation as text: summary, difference of placements, poses, views, and whatever else was measured."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from openrayzer.reports.names import DASH, METRICS, kind, method, metric, written
from openrayzer.reports.results import Results, number

PIXELS = {
    "none": "no target pixels used",
    "own_pose": "target pixels used for their own pose only",
    "all_poses": "target pixels used for all poses",
}
"""What a placement takes from the targets' images, in few words."""


@dataclass(frozen=True)
class Cell:
    """A number as it is shown.

    Attributes:
        text: the number, or a dash.
        detail: what stands small below it.
        reason: why there is a dash.
        best: whether it is the best of the placements.
    """

    text: str
    detail: tuple[str, ...] = ()
    reason: str = ""
    best: bool = False


@dataclass(frozen=True)
class Row:
    """One line of a table; ``note`` stands small below its label."""

    label: str
    cells: tuple[Cell, ...]
    kind: str = "baseline"
    note: str = ""


@dataclass(frozen=True)
class Table:
    """Named columns, rows, and sentences below them."""

    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()
    title: str = ""


def summary_table(results: Results) -> Table:
    """Methods by metrics: mean over scenes with its interval; the placements first, baselines below."""
    summary, names = results.values["summary"], results.metrics()
    methods = [name for name in results.placements if name in summary]
    methods += [name for name in summary if name not in methods]
    best = {
        name: _best(name, {key: summary[key].get(name) for key in results.placements if key in summary})
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
    return Table(tuple(_column(name) for name in names), rows, _reasons(names, rows))


def difference_table(results: Results) -> Table:
    """Placement minus placement, paired by scene."""
    differences = results.section("differences")
    names = list(dict.fromkeys(name for row in differences.values() for name in row))
    rows = tuple(
        Row(
            " minus ".join(method(side) for side in key.split("_minus_")),
            tuple(_interval_cell(row.get(name), metric(name).decimals, sign=True) for name in names),
            note=f"over {count} scenes" if (count := _scenes(row)) else "",
        )
        for key, row in differences.items()
    )
    return Table(tuple(metric(name).label for name in names), rows)


def pose_table(results: Results) -> Table:
    """Pose metrics, one a row, of the placements beside poses that cost nothing."""
    poses = results.section("poses")
    names = list(dict.fromkeys(name for row in poses.values() for name in row))
    counts = {count for row in poses.values() if (count := _scenes(row))}
    rows = tuple(
        Row(_column(name), tuple(_pose_cell(row.get(name), metric(name).decimals) for row in poses.values()))
        for name in names
    )
    notes = (f"Means over {max(counts)} scenes that have true cameras.",) if counts else ()
    return Table(tuple(method(key) for key in poses), rows, notes)


def sweep_table(results: Results) -> Table:
    """One row for each number of context views."""
    sweep = results.values.get("views_sweep") or []
    columns = sweep_columns(sweep)
    rows = tuple(
        Row(
            f"{entry['num_context']}",
            tuple(_interval_cell((entry.get(key) or {}).get(name), metric(name).decimals) for key, name in columns),
        )
        for entry in sweep
    )
    return Table(tuple(f"{method(key)}: {metric(name).label}" for key, name in columns), rows)


def sweep_columns(sweep: Iterable[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Method and metric of all numbers in a views sweep, by metric."""
    pairs = dict.fromkeys(
        (key, name)
        for entry in sweep
        for key, values in entry.items()
        if isinstance(values, Mapping)
        for name in values
        if value_of(values[name]) is not None
    )
    metrics = list(dict.fromkeys(name for _, name in pairs))
    return sorted(pairs, key=lambda pair: metrics.index(pair[1]))


def pixel_use(placement: Mapping[str, Any]) -> str:
    """Key of ``PIXELS`` for a placement; where it does not say that it keeps targets apart, it does not."""
    if not placement.get("uses_target_pixels"):
        return "none"
    return "all_poses" if placement.get("mixes_target_pixels", True) else "own_pose"


def settings_table(results: Results) -> list[Table]:
    """How it was evaluated, as a list; what is grouped is named by both names. The index stands by itself."""
    flat: dict[str, Any] = {}
    for key, value in results.values["settings"].items():
        if isinstance(value, Mapping) and key != "index":
            flat |= {f"{key}_{inner}": item for inner, item in value.items()}
        elif key != "index":
            flat[key] = value
    return any_tables(flat)


def value_of(entry: object) -> float | None:
    """The number itself, or its ``mean`` where it comes with an interval."""
    return number(entry.get("mean") if isinstance(entry, Mapping) else entry)


def any_tables(value: Mapping[str, Any], *, title: str = "") -> list[Table]:
    """Whatever a section holds: rows of equal keys as one table, single values as a list, deeper ones by themselves."""
    single = {key: item for key, item in value.items() if not isinstance(item, Mapping)}
    nested = {key: item for key, item in value.items() if isinstance(item, Mapping)}
    flat = {key: item for key, item in nested.items() if not any(isinstance(x, Mapping) for x in item.values())}
    tables = []
    if single:
        tables.append(
            Table(("",), tuple(Row(_words(key), (_any_cell(item),)) for key, item in single.items()), title=title)
        )
    if flat:
        columns = list(dict.fromkeys(name for row in flat.values() for name in row))
        rows = tuple(Row(_words(key), tuple(_any_cell(row.get(name)) for name in columns)) for key, row in flat.items())
        tables.append(Table(tuple(_words(name) for name in columns), rows, title=title))
    for key, item in nested.items():
        if key not in flat:
            tables += any_tables(item, title=f"{title}: {_words(key)}" if title else _words(key))
    return tables


def _summary_cell(results: Results, values: Mapping[str, Any] | None, name: str, *, best: bool) -> Cell:
    if values is None or number(values.get("mean")) is None:
        return Cell(DASH, reason=_why_none(results, values, name))
    decimals = metric(name).decimals
    cell = _interval_cell(values, decimals)
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
    if name.startswith("lpips_") and (why := (results.values["settings"].get("lpips") or {}).get(name[6:])):
        return str(why)
    return "not measured"


def _interval_cell(values: object, decimals: int, *, sign: bool = False) -> Cell:
    if (value := value_of(values)) is None:
        return Cell(DASH, reason="not measured")
    detail: tuple[str, ...] = ()
    if isinstance(values, Mapping):
        low, high = number(values.get("low")), number(values.get("high"))
        if low is not None and high is not None:
            detail = (f"{written(low, decimals, sign=sign)} to {written(high, decimals, sign=sign)}",)
    return Cell(written(value, decimals, sign=sign), detail)


def _pose_cell(values: object, decimals: int) -> Cell:
    cell = _interval_cell(values, decimals)
    left_out = values.get("not_finite") if isinstance(values, Mapping) else None
    return replace(cell, detail=(*cell.detail, f"{left_out} not finite, left out")) if left_out else cell


def _any_cell(value: object) -> Cell:
    if value is None:
        return Cell(DASH, reason="not measured")
    if isinstance(value, bool):
        return Cell("yes" if value else "no")
    if isinstance(value, int | float):
        exact = number(value)
        digits = 0 if isinstance(value, int) else 3
        return Cell(DASH, reason="not finite") if exact is None else Cell(written(exact, digits))
    if isinstance(value, list | tuple):
        return Cell(", ".join(_any_cell(item).text for item in value))
    return Cell(str(value))


def _best(name: str, column: Mapping[str, Mapping[str, Any] | None]) -> str:
    """Of several placements the one with the best mean; empty for a single one."""
    means = {key: mean for key, values in column.items() if (mean := value_of(values)) is not None}
    better = metric(name).better
    if len(means) < 2 or not better:
        return ""
    return (max if better == "higher" else min)(means, key=means.__getitem__)


def _pixels(results: Results, key: str) -> str:
    placement = results.values["placements"].get(key)
    return "" if placement is None else PIXELS[pixel_use(placement)]


def _reasons(names: list[str], rows: tuple[Row, ...]) -> tuple[str, ...]:
    """Why there are dashes, once for each metric and reason."""
    pairs = dict.fromkeys(
        (name, cell.reason) for row in rows for name, cell in zip(names, row.cells, strict=True) if cell.reason
    )
    return tuple(f"{DASH} in {metric(name).label}: {reason}" for name, reason in pairs if reason != "not measured")


def _scenes(row: Mapping[str, Any]) -> int | None:
    counts = [values["scenes"] for values in row.values() if isinstance(values, Mapping) and "scenes" in values]
    return max(counts, default=None)


def _column(name: str) -> str:
    arrow = {"higher": " ↑", "lower": " ↓"}.get(metric(name).better, "")
    return metric(name).label + arrow


def _words(name: str) -> str:
    """A key of a section as a heading: ``psnr_change`` becomes PSNR change."""
    if name in METRICS or "@" in name:
        return metric(name).label
    words = method(name)
    first, _, rest = words.partition(" ")
    first = METRICS[first].short if first in METRICS and METRICS[first].short else first[:1].upper() + first[1:]
    return f"{first} {rest}".strip()
