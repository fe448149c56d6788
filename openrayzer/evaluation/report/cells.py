"""Cells, rows and tables of the report as text."""

from collections.abc import Mapping
from dataclasses import dataclass

from openrayzer.evaluation.report.evaluation_folder import number
from openrayzer.evaluation.report.names import DASH, MetricStyle, method, metric_style, written
from openrayzer.interfaces import METRICS


@dataclass(frozen=True)
class Cell:
    """A number as text.

    Attributes:
        text: the number, or a dash.
        detail: small lines below it.
        reason: reason for a dash.
        best: whether it is the best value of the placements.
    """

    text: str
    detail: tuple[str, ...] = ()
    reason: str = ""
    best: bool = False


@dataclass(frozen=True)
class Row:
    """One line of a table, with a small note below its label."""

    label: str
    cells: tuple[Cell, ...]
    kind: str = "baseline"
    note: str = ""


@dataclass(frozen=True)
class Table:
    """Named columns, rows, and sentences below the table."""

    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()
    title: str = ""


def value_of(entry: object) -> float | None:
    """A number, or the ``mean`` of an entry with an interval."""
    return number(entry.get("mean") if isinstance(entry, Mapping) else entry)


def interval_cell(values: object, decimals: int, *, sign: bool = False) -> Cell:
    if (value := value_of(values)) is None:
        return Cell(DASH, reason="not measured")
    detail: tuple[str, ...] = ()
    if isinstance(values, Mapping):
        low, high = number(values.get("low")), number(values.get("high"))
        if low is not None and high is not None:
            detail = (f"{written(low, decimals, sign=sign)} to {written(high, decimals, sign=sign)}",)
    return Cell(written(value, decimals, sign=sign), detail)


def any_cell(value: object) -> Cell:
    if value is None:
        return Cell(DASH, reason="not measured")
    if isinstance(value, bool):
        return Cell("yes" if value else "no")
    if isinstance(value, int | float):
        exact = number(value)
        digits = 0 if isinstance(value, int) else 3
        return Cell(DASH, reason="not finite") if exact is None else Cell(written(exact, digits))
    if isinstance(value, list | tuple):
        return Cell(", ".join(any_cell(item).text for item in value))
    return Cell(str(value))


def column_label(style: MetricStyle) -> str:
    """Label of a metric, with an arrow to the better values."""
    return style.label + {"higher": " ↑", "lower": " ↓"}.get(style.better, "")


def heading(name: str) -> str:
    """A key of metrics.json as a heading: ``psnr_change`` becomes PSNR change."""
    if name in METRICS or "@" in name:
        return metric_style(name).label
    words = method(name)
    first, _, rest = words.partition(" ")
    first = metric_style(first).short if first in METRICS else first[:1].upper() + first[1:]
    return f"{first} {rest}".strip()
