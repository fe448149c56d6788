"""The folder of an evaluation, read and checked: metrics.json and per_view.csv."""

import csv
import json
import math
from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from openrayzer.evaluation.report.names import MetricStyle, metric_style
from openrayzer.interfaces import InputError

METRICS, PER_VIEW = "metrics.json", "per_view.csv"
FORMAT = 1
"""Version of metrics.json that this package reads."""
REQUIRED = ("model", "settings", "placements", "scenes", "targets", "summary", "per_scene")
VIEW_COLUMNS = ("scene", "frame", "equals_context", "method")

Table = Mapping[str, Mapping[str, Any]]
"""Rows of named values."""


@dataclass
class View:
    """The metrics of one target view.

    Attributes:
        equals_context: whether the frame is also a context view.
        metrics: method -> metric -> value; None if the value is not finite or was not computed.
    """

    equals_context: bool
    metrics: dict[str, dict[str, float | None]] = field(default_factory=dict)


@dataclass(frozen=True)
class Results:
    """The content of an evaluation folder.

    Attributes:
        folder: the folder.
        values: metrics.json; an optional section may be missing or None.
        views: scene -> frame number -> target view, for the scenes with pictures.
    """

    folder: Path
    values: Mapping[str, Any]
    views: Mapping[str, Mapping[int, View]]

    def section(self, name: str) -> Any:
        """A section of metrics.json; an empty mapping if it is null or missing."""
        return self.values.get(name) or {}

    @property
    def placements(self) -> tuple[str, ...]:
        """Names of the placements, in the order of the evaluation."""
        return tuple(self.values["placements"])

    def scenes(self) -> list[str]:
        """Names of the scenes, in the order of the evaluation."""
        scenes = self.values["per_scene"]
        return sorted(scenes, key=lambda name: (scenes[name].get("number", 0), name))

    def metrics(self) -> list[str]:
        """Names of all metrics of images, in order of appearance."""
        return list(dict.fromkeys(metric for row in self.values["summary"].values() for metric in row))

    def style(self, metric: str) -> MetricStyle:
        """How an image or pose metric is written."""
        return metric_style(metric, self.section("metrics"))


def read_results(folder: Path) -> Results:
    """The evaluation in ``folder``.

    Raises:
        InputError: a file is missing or broken; the message says which and how.
    """
    values = read_metrics(folder / METRICS)
    if values.get("format") != FORMAT:
        raise InputError(
            f"{folder / METRICS}: format {values.get('format')!r} is not known; this version reads format {FORMAT}, "
            "which `openrayzer evaluate` writes"
        )
    if missing := [name for name in REQUIRED if not isinstance(values.get(name), dict)]:
        raise InputError(f"{folder / METRICS}: no object {', '.join(missing)}")
    drawn = {name for name, scene in values["per_scene"].items() if scene.get("pictures")}
    return Results(folder, values, read_views(folder / PER_VIEW, drawn))


def read_metrics(file: Path) -> dict[str, Any]:
    """A JSON object. NaN and infinite values become None.

    Raises:
        InputError: the file is missing or holds no JSON object.
    """
    try:
        values = json.loads(file.read_text(encoding="utf-8"), parse_constant=lambda _: None)
    except (OSError, ValueError) as error:
        raise InputError(f"{file}: cannot be read: {error}") from error
    if not isinstance(values, dict):
        raise InputError(f"{file}: holds no JSON object")
    return values


def read_views(file: Path, scenes: Container[str]) -> dict[str, dict[int, View]]:
    """Scene -> frame number -> target view.

    Args:
        file: per_view.csv, which may have hundreds of thousands of views.
        scenes: names of the scenes to return.

    Raises:
        InputError: the file is missing or a line cannot be read.
    """
    views: dict[str, dict[int, View]] = {}
    try:
        with file.open(encoding="utf-8", newline="") as lines:
            reader = csv.DictReader(lines)
            if missing := [name for name in VIEW_COLUMNS if name not in (reader.fieldnames or ())]:
                raise InputError(f"{file}: no column {', '.join(missing)}")
            for row in reader:
                frame, equals = int(row["frame"]), row["equals_context"].strip().lower() in ("1", "true", "yes")
                if row["scene"] not in scenes:
                    continue
                view = views.setdefault(row["scene"], {}).setdefault(frame, View(equals))
                view.metrics[row["method"]] = {
                    name: number(text) for name, text in row.items() if name not in VIEW_COLUMNS
                }
    except OSError as error:
        raise InputError(f"{file}: cannot be read: {error.strerror or error}") from error
    except (ValueError, TypeError, AttributeError, csv.Error) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{file}: line {reader.line_num} cannot be read: {error}") from error
    return views


def number(value: object) -> float | None:
    """``value`` as a finite number; None if it is not one."""
    try:
        result = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    return result if math.isfinite(result) else None
