"""Plots of an evaluation as SVG: a metric over scenes, and a metric over the number of context views."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from openrayzer.evaluation.report.names import MetricStyle, written
from openrayzer.evaluation.report.svg import Drawing, ticks

WIDTH = 400.0
MARGIN = 14.0
ROW = 52.0
FEW = 8
"""Number of scenes from which on a distribution has an outline."""
MANY = 150
"""Number of scenes from which on a distribution has no dots, only the outline."""

Axis = Callable[[float], float]
"""Value -> coordinate in the drawing."""


@dataclass(frozen=True)
class Spread:
    """The values of a metric for one method.

    Attributes:
        label: label of the method.
        kind: CSS class of the method.
        scenes: name and value of each scene that has a value.
        mean: mean over the scenes.
        low: lower end of its interval.
        high: upper end of its interval.
    """

    label: str
    kind: str
    scenes: Sequence[tuple[str, float]]
    mean: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Curve:
    """The values of a metric for one method by number of context views."""

    label: str
    kind: str
    points: Sequence[tuple[float, float]]


def spread_plot(metric: MetricStyle, rows: Sequence[Spread]) -> Markup:
    """One distribution per method on a common axis: outline, a dot per scene, mean with interval."""
    values = [value for row in rows for _, value in row.scenes]
    low, high = _limits(values)
    height = ROW * len(rows) + 44
    means = ", ".join(f"{row.label} {written(row.mean, metric.decimals)}" for row in rows)
    drawing = Drawing(WIDTH, height, title=f"{metric.label} of each scene", description=f"Means: {means}")

    def across(value: float) -> float:
        return MARGIN + (WIDTH - 2 * MARGIN) * (value - low) / (high - low)

    _axis_below(drawing, across, low, high, top=8.0, bottom=height - 36, title=metric.label)
    for place, row in enumerate(rows):
        _spread_row(drawing, row, across, base=8 + ROW * (place + 1) - 6, limits=(low, high), decimals=metric.decimals)
    return drawing.markup()


def _spread_row(
    drawing: Drawing, row: Spread, across: Axis, *, base: float, limits: tuple[float, float], decimals: int
) -> None:
    values = np.array([value for _, value in row.scenes])
    if len(values) >= FEW:
        edges = np.linspace(*limits, 49)
        counts, _ = np.histogram(values, edges)
        smooth = np.convolve(counts, [1, 3, 4, 3, 1], "same")
        centres = (edges[1:] + edges[:-1]) / 2
        outline = [(across(x), base - 26 * y / smooth.max()) for x, y in zip(centres, smooth, strict=True)]
        drawing.area([(outline[0][0], base), *outline, (outline[-1][0], base)], f"fill {row.kind}")
    if len(values) < MANY:
        for place, (scene, value) in enumerate(row.scenes):
            wobble = (place * 0.618034 % 1 - 0.5) * 8  # golden ratio: dots of consecutive scenes are far apart
            hint = f"{scene}: {written(value, decimals)}"
            drawing.circle(across(value), base - 8 + wobble, 2.2, f"dot {row.kind}", hint=hint)
    drawing.line(MARGIN, base, WIDTH - MARGIN, base, "base")
    if row.mean is not None:
        if row.low is not None and row.high is not None:
            drawing.line(across(row.low), base, across(row.high), base, f"interval {row.kind}")
        drawing.line(across(row.mean), base - 5, across(row.mean), base + 5, f"mean {row.kind}")
    drawing.text(MARGIN, base - 32, row.label, f"label strong {row.kind}")
    drawing.text(WIDTH - MARGIN, base - 32, written(row.mean, decimals), "label value", anchor="end")


def sweep_plot(metric: MetricStyle, curves: Sequence[Curve]) -> Markup:
    """A metric against the number of context views, with a legend below."""
    xs = sorted({x for curve in curves for x, _ in curve.points})
    low, high = _limits([y for curve in curves for _, y in curve.points])
    left, right, top, bottom = 44.0, WIDTH - MARGIN, 12.0, 212.0
    height = bottom + 46 + 15 * math.ceil(len(curves) / 2)
    first, last = (xs[0], xs[-1]) if len(xs) > 1 else (xs[0] - 1, xs[0] + 1)
    description = "; ".join(
        f"{curve.label}: " + ", ".join(f"{y:.{metric.decimals}f} with {x:g}" for x, y in curve.points)
        for curve in curves
    )
    drawing = Drawing(WIDTH, height, title=f"{metric.label} against number of context views", description=description)

    def across(value: float) -> float:
        return left + 8 + (right - left - 16) * (value - first) / (last - first)

    def up(value: float) -> float:
        return bottom - (bottom - top) * (value - low) / (high - low)

    for y, text in ticks(low, high):
        drawing.line(left, up(y), right, up(y), "grid")
        drawing.text(left - 5, up(y) + 4, text, anchor="end")
    for x in xs:
        drawing.text(across(x), bottom + 16, f"{x:g}", anchor="middle")
    drawing.line(left, bottom, right, bottom, "base")
    drawing.text((left + right) / 2, bottom + 33, f"context views  ·  {metric.label}", "label axis", anchor="middle")
    for place, curve in enumerate(curves):
        points = [(across(x), up(y)) for x, y in curve.points]
        drawing.curve(points, f"curve {curve.kind} dash{place % 4}")
        for x, y in points:
            _marker(drawing, x, y, place, curve.kind)
        x, y = left + (place % 2) * 180, bottom + 51 + 15 * (place // 2)
        _marker(drawing, x + 4, y - 4, place, curve.kind)
        drawing.text(x + 14, y, curve.label)
    return drawing.markup()


def _marker(drawing: Drawing, x: float, y: float, place: int, kind: str) -> None:
    """A circle, square, triangle or diamond, so that curves differ without colours."""
    if place % 4 == 0:
        drawing.circle(x, y, 3.6, f"mark {kind}")
        return
    corners = {
        1: [(-3.4, -3.4), (3.4, -3.4), (3.4, 3.4), (-3.4, 3.4)],
        2: [(0, -4.4), (4.2, 3.4), (-4.2, 3.4)],
        3: [(0, -4.8), (4.8, 0), (0, 4.8), (-4.8, 0)],
    }[place % 4]
    drawing.area([(x + dx, y + dy) for dx, dy in corners], f"mark {kind}")


def _axis_below(
    drawing: Drawing, across: Axis, low: float, high: float, *, top: float, bottom: float, title: str
) -> None:
    for x, text in ticks(low, high):
        drawing.line(across(x), top, across(x), bottom, "grid")
        drawing.text(across(x), bottom + 14, text, anchor="middle")
    drawing.text(WIDTH / 2, bottom + 31, title, "label axis", anchor="middle")


def _limits(values: Sequence[float]) -> tuple[float, float]:
    """The range of ``values`` with a margin; never empty."""
    low, high = min(values, default=0.0), max(values, default=1.0)
    margin = 0.05 * (high - low) or max(abs(low), 1.0) * 0.05
    return low - margin, high + margin
