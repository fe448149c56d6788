"""Tables of sections whose content is not fixed here: settings, transfer, sanity battery."""

from collections.abc import Mapping
from typing import Any

from openrayzer.evaluation.report.cells import Cell, Row, Table, any_cell, heading
from openrayzer.evaluation.report.evaluation_folder import Results, number
from openrayzer.evaluation.report.names import method, written

SANITY = {
    "psnr_change": "PSNR change, dB",
    "rotation_deg": "rotations, °",
    "direction_deg": "directions, °",
    "centre_change": "centres",
    "passed": "as true poses",
}
"""Headings of the sanity battery: how far renders and poses moved."""


def settings_table(results: Results) -> list[Table]:
    """How it was evaluated, as a list; what is grouped is named by both names. The index stands by itself."""
    flat: dict[str, Any] = {}
    for key, value in results.values["settings"].items():
        if isinstance(value, Mapping) and key != "index":
            flat |= {f"{key}_{inner}": item for inner, item in value.items()}
        elif key != "index":
            flat[key] = value
    return any_tables(flat)


def any_tables(value: Mapping[str, Any], *, title: str = "") -> list[Table]:
    """Whatever a section holds: rows of equal keys as one table, single values as a list, deeper ones by themselves."""
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
    """For each placement, what every disturbance changed and in how many scenes the model stood it."""
    return [
        _sanity_table(checks, title=method(placement))
        for placement, checks in results.section("sanity").items()
        if isinstance(checks, Mapping)
    ]


def sanity_words(results: Results) -> dict[str, dict[str, str]]:
    """What is said of each disturbance: what it is, what true poses do, what a shortcut does."""
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
