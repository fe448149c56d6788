"""Tables of the settings, the metrics, the transfer and the sanity battery."""

from collections.abc import Mapping
from typing import Any

from openrayzer.evaluation.report.cells import Cell, Row, Table, any_cell, heading
from openrayzer.evaluation.report.evaluation_folder import Results, number
from openrayzer.evaluation.report.names import DASH, method, written

SANITY = {
    "psnr_change": "PSNR change, dB",
    "rotation_deg": "rotations, °",
    "direction_deg": "directions, °",
    "centre_change": "centres",
    "passed": "passed",
}
"""Column headings of the sanity battery."""


def settings_table(results: Results) -> list[Table]:
    """The settings as a list, without the index. The entries of a group have the name of the group before their own."""
    flat: dict[str, Any] = {}
    for key, value in results.values["settings"].items():
        if isinstance(value, Mapping) and key != "index":
            flat |= {f"{key}_{inner}": item for inner, item in value.items()}
        elif key != "index":
            flat[key] = value
    return any_tables(flat)


def metrics_table(results: Results) -> Table:
    """Definition and weights of each image metric."""
    metrics = results.section("metrics")
    return Table(
        ("definition", "weights"),
        tuple(
            Row(results.style(name).label, (Cell(about.get("definition") or DASH), Cell(about.get("weights") or DASH)))
            for name, about in metrics.items()
        ),
    )


def any_tables(value: Mapping[str, Any], *, title: str = "") -> list[Table]:
    """Tables of a section of any content.

    Single values become a list, groups of values the rows of one table, and deeper groups further tables.
    """
    single = {key: item for key, item in value.items() if not isinstance(item, Mapping)}
    nested = {key: item for key, item in value.items() if isinstance(item, Mapping)}
    flat = {key: item for key, item in nested.items() if not any(isinstance(x, Mapping) for x in item.values())}
    tables = []
    if single:
        tables.append(
            Table(("",), tuple(Row(heading(key), (any_cell(item),)) for key, item in single.items()), title=title)
        )
    if flat:
        columns = list(dict.fromkeys(name for row in flat.values() for name in row))
        rows = tuple(Row(heading(key), tuple(any_cell(row.get(name)) for name in columns)) for key, row in flat.items())
        tables.append(Table(tuple(heading(name) for name in columns), rows, title=title))
    for key, item in nested.items():
        if key not in flat:
            tables += any_tables(item, title=f"{title}: {heading(key)}" if title else heading(key))
    return tables


def sanity_tables(results: Results) -> list[Table]:
    """One table per placement: the effect of each change, and the number of scenes that passed."""
    return [
        _sanity_table(checks, title=method(placement))
        for placement, checks in results.section("sanity").items()
        if isinstance(checks, Mapping)
    ]


def sanity_words(results: Results) -> dict[str, dict[str, str]]:
    """Descriptions of each change: the change itself, the effect on true poses, the effect on a shortcut."""
    words: dict[str, dict[str, str]] = {}
    for checks in results.section("sanity").values():
        for check, values in checks.items() if isinstance(checks, Mapping) else ():
            texts = {key: text for key, text in values.items() if isinstance(text, str)}
            if texts:
                words.setdefault(heading(check), {heading(key): text for key, text in texts.items()})
    return words


def _sanity_table(checks: Mapping[str, Mapping[str, Any]], *, title: str) -> Table:
    names = [
        name
        for name in dict.fromkeys(name for values in checks.values() for name in values)
        if name != "scenes" and not any(isinstance(values.get(name), str) for values in checks.values())
    ]
    rows = tuple(
        Row(heading(check), tuple(_sanity_cell(name, values) for name in names)) for check, values in checks.items()
    )
    return Table(tuple(SANITY.get(name, heading(name)) for name in names), rows, title=title)


def _sanity_cell(name: str, values: Mapping[str, Any]) -> Cell:
    value, scenes = values.get(name), values.get("scenes")
    if name == "passed" and scenes and (share := number(value)) is not None:
        return Cell(f"{round(share * scenes)} of {scenes} scenes")
    if name == "psnr_change" and (change := number(value)) is not None:
        return Cell(written(change, 2, sign=True))
    return any_cell(value)
