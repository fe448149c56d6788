"""Charts of a comparison; they need matplotlib, which the extra ``plots`` installs."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from openrayzer.evaluation.comparison.comparison import Comparison

CURVES, DIFFERENCES = "curves.png", "differences.png"
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000")
"""The palette of Okabe and Ito, which colour-blind people can distinguish."""
COLUMNS = 3
MARKS, DASHES = "osD^vPX", ("-", "--", "-.", ":")
AXES = (("optimizer steps", 0), ("seconds of training", 1), ("FLOPs of training", 2))


def draw_charts(comparison: Comparison, folder: Path) -> list[Path]:
    """Write curves.png and differences.png. A chart without data is not written.

    Raises:
        ModuleNotFoundError: matplotlib is not installed.
    """
    import matplotlib

    with matplotlib.rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}):
        files = [_curves(comparison, folder / CURVES), _differences(comparison, folder / DIFFERENCES)]
    return [file for file in files if file is not None]


def _curves(comparison: Comparison, path: Path) -> Path | None:
    """The metric on held-out clips against steps, seconds and FLOPs."""
    entries = [entry for entry in comparison.entries if entry.curve]
    used = [
        (label, at) for label, at in AXES if any(point[at] is not None for entry in entries for point in entry.curve)
    ]
    if not used:
        return None
    figure, panels = _figure(len(used))
    for panel, (label, at) in zip(panels, used, strict=True):
        for place, entry in enumerate(comparison.entries):
            points = [(point[at], point[3]) for point in entry.curve if point[at] is not None]
            if points:
                panel.plot(*zip(*points, strict=True), label=entry.name, **_style(place))
        panel.set_xlabel(label)
        panel.grid(alpha=0.25)
    panels[0].set_ylabel(f"{comparison.style(comparison.metric).label}, held-out clips")
    panels[0].legend(frameon=False)
    figure.savefig(path, dpi=150)
    return path


def _differences(comparison: Comparison, path: Path) -> Path | None:
    """The differences of all scenes, sorted, with mean and interval."""
    pairs = [one for one in comparison.pairs if one.differences]
    if not pairs:
        return None
    figure, panels = _figure(len(pairs))
    for panel, one in zip(panels, pairs, strict=True):
        values = sorted(one.differences.values())
        panel.axhline(0, color="black", linewidth=0.8)
        panel.plot(range(1, len(values) + 1), values, "o", markersize=4, color=COLOURS[0], label="a scene")
        if one.mean.low is not None and one.mean.high is not None:
            panel.axhspan(one.mean.low, one.mean.high, color=COLOURS[1], alpha=0.2, linewidth=0, label="95 % interval")
        panel.axhline(one.mean.mean, color=COLOURS[1], label="mean")
        names = [comparison.entries[number].name for number in (one.second, one.first)]
        panel.set_title(" minus ".join(names), fontsize=9)
        panel.set_xlabel("scenes, sorted")
        panel.set_ylabel(f"difference of {comparison.style(comparison.metric).label}")
        panel.grid(alpha=0.25)
    panels[0].legend(frameon=False)
    figure.savefig(path, dpi=150)
    return path


def _figure(panels: int) -> tuple[Any, Sequence[Any]]:
    """A figure with ``panels`` panels, three per row."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows, columns = math.ceil(panels / COLUMNS), min(panels, COLUMNS)
    figure = Figure(figsize=(4.4 * columns, 3.6 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, [figure.add_subplot(rows, columns, place + 1) for place in range(panels)]


def _style(place: int) -> dict[str, Any]:
    """Colour, marker and line of side number ``place``; they differ for any two of 28 sides."""
    return {
        "color": COLOURS[place % len(COLOURS)],
        "marker": MARKS[place % len(MARKS)],
        "linestyle": DASHES[place % len(DASHES)],
        "markersize": 4,
    }
