"""report.html: an evaluation on one page that opens without a server and without a network."""

from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import ChainableUndefined, Environment, PackageLoader
from markupsafe import Markup

from openrayzer.evaluation.report.cells import value_of
from openrayzer.evaluation.report.evaluation_folder import Results, number, read_results
from openrayzer.evaluation.report.names import EXCHANGED, kind, method, written
from openrayzer.evaluation.report.other_tables import (
    any_tables,
    metrics_table,
    sanity_tables,
    sanity_words,
    settings_table,
)
from openrayzer.evaluation.report.page_pictures import Album
from openrayzer.evaluation.report.plots import Curve, Spread, spread_plot, sweep_plot
from openrayzer.evaluation.report.scene_data import scene_data
from openrayzer.evaluation.report.tables import (
    PIXELS,
    baseline_tables,
    depth_table,
    difference_table,
    gaussian_table,
    pixel_use,
    pose_table,
    summary_table,
    sweep_columns,
    sweep_table,
)
from openrayzer.interfaces import InputError
from openrayzer.machine.writing import whole_file

REPORT = "report.html"
NOT_DRAWN = "random_poses"
"""Left out of plots, because its values are so poor that the other curves would coincide; the tables have it."""
PICTURE_BYTES = 48 * 2**20
"""Most bytes of pictures in the page; base64 makes them a third larger."""
CAMERA_NUMBERS = 2_000_000
"""Most numbers of cameras in the page, enough for some 5000 scenes with 8 views."""


def write_report(folder: Path | str, *, picture_bytes: int = PICTURE_BYTES) -> Path:
    """Write report.html into an evaluation folder from its metrics.json, per_view.csv and pictures.

    Args:
        folder: the folder that `openrayzer evaluate` has written.
        picture_bytes: most bytes of embedded pictures. The page shows the other pictures from the folder, as long as it
            stays there, and gives their number.

    Returns:
        The page.

    Raises:
        InputError: a file is missing or broken, or the page cannot be written.
    """
    folder = Path(folder)
    page = render(read_results(folder), picture_bytes=picture_bytes)
    try:
        with whole_file(folder / REPORT, flush=False) as temporary:
            temporary.write_text(page, encoding="utf-8", errors="replace")
    except OSError as error:
        raise InputError(f"{folder / REPORT}: cannot be written: {error.strerror or error}") from error
    return folder / REPORT


def render(results: Results, *, picture_bytes: int) -> str:
    """The page as text, with all data escaped."""
    album = Album(results.folder, picture_bytes)
    scenes, without_cameras = scene_data(results, album, most_numbers=CAMERA_NUMBERS)
    rows = _scene_rows(results)
    environment = Environment(
        loader=PackageLoader("openrayzer.evaluation.report"),
        autoescape=True,
        undefined=ChainableUndefined,  # a missing key of metrics.json is blank
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["asset"] = _asset
    return environment.get_template("report.html").render(
        results=results,
        values=results.values,
        headline=_headline(results),
        summary=summary_table(results),
        differences=difference_table(results),
        spreads=_spreads(results),
        sweep=sweep_table(results),
        sweep_plots=_sweep_plots(results),
        poses=pose_table(results),
        depth=depth_table(results),
        gaussians=gaussian_table(results),
        rendering=results.section("seconds").get("rendering"),
        against=baseline_tables(results),
        transfer=any_tables(results.section("transfer")),
        sanity=sanity_tables(results),
        sanity_words=sanity_words(results),
        skipped=_by_reason(results.section("scenes").get("skipped") or {}),
        settings=settings_table(results),
        metrics=metrics_table(results),
        seconds=any_tables(results.section("seconds")),
        method=method,
        pixels={name: PIXELS[pixel_use(how)] for name, how in results.values["placements"].items()},
        scene_columns=_scene_columns(results),
        scene_rows=rows,
        some_missing=any(value is None for row in rows for value, _ in row["cells"]),
        scene_data=scenes,
        album=album,
        without_cameras=without_cameras,
    )


def _asset(name: str) -> Markup:
    """A style sheet or script of this package."""
    return Markup(files("openrayzer.evaluation.report").joinpath("templates", name).read_text(encoding="utf-8"))


def _headline(results: Results) -> list[dict[str, str]]:
    """The large numbers at the top: the first metric of each placement and of the best baseline."""
    names = results.metrics()
    if not names:
        return []
    style = results.style(names[0])
    summary = results.values["summary"]
    means = {key: value_of(row.get(names[0])) for key, row in summary.items()}
    baselines = {
        key: mean
        for key, mean in means.items()
        if mean is not None and key not in results.placements and not key.endswith(EXCHANGED)
    }
    shown = [key for key in results.placements if key in summary]
    if baselines:
        shown.append((min if style.better == "lower" else max)(baselines, key=baselines.__getitem__))
    return [
        {"label": method(key), "value": written(means[key], style.decimals), "unit": style.label,
         "kind": kind(key, results.placements)}
        for key in shown
    ]  # fmt: skip


def _spreads(results: Results) -> list[Markup]:
    """A plot for each metric that some scene has."""
    scenes, summary = results.values["per_scene"], results.values["summary"]
    order = [*results.placements, *(key for key in summary if key not in results.placements)]
    plots = []
    for name in results.metrics():
        rows = []
        for key in order:
            values = [
                (scene, number(scenes[scene].get("metrics", {}).get(key, {}).get(name))) for scene in results.scenes()
            ]
            kept = [(scene, value) for scene, value in values if value is not None]
            entry = summary.get(key, {}).get(name) or {}
            bounds = (number(entry.get(bound)) for bound in ("mean", "low", "high"))
            if kept:
                rows.append(Spread(method(key), kind(key, results.placements), kept, *bounds))
        if rows:
            plots.append(spread_plot(results.style(name), rows))
    return plots


def _sweep_plots(results: Results) -> list[Markup]:
    """A plot for each metric of the views sweep."""
    sweep = results.values.get("views_sweep") or []
    columns = sweep_columns(results)
    plots = []
    for name in dict.fromkeys(name for _, name in columns):
        curves = []
        for key in (key for key, other in columns if other == name and key != NOT_DRAWN):
            found = [(entry["num_context"], value_of((entry.get(key) or {}).get(name))) for entry in sweep]
            points = [(float(count), value) for count, value in sorted(found) if value is not None]
            curves.append(Curve(method(key), kind(key, results.placements), points))
        if curves:
            plots.append(sweep_plot(results.style(name), curves))
    return plots


def _by_reason(skipped: dict[str, str]) -> dict[str, list[str]]:
    """Reason -> skipped scenes, the most frequent reason first."""
    reasons: dict[str, list[str]] = {}
    for scene, reason in skipped.items():
        reasons.setdefault(str(reason).replace(repr(scene), "…"), []).append(scene)
    return dict(sorted(reasons.items(), key=lambda item: -len(item[1])))


def _scene_columns(results: Results) -> list[dict[str, str]]:
    """Columns of the table of scenes: the metrics of the placements, and the first of the nearest context view."""
    names = results.metrics()
    pairs = [(key, name) for name in names for key in results.placements]
    if names and "nearest_context" in results.values["summary"]:
        pairs.insert(len(results.placements), ("nearest_context", names[0]))
    first = results.placements[0] if results.placements else ""
    return [
        {"key": name if key == first else f"{key}.{name}", "method": key, "metric": name,
         "label": results.style(name).label, "of": method(key), "kind": kind(key, results.placements)}
        for key, name in pairs
        if any(number(scene.get("metrics", {}).get(key, {}).get(name)) is not None
               for scene in results.values["per_scene"].values())
    ]  # fmt: skip


def _scene_rows(results: Results) -> list[dict[str, Any]]:
    """Rows of the table of scenes: position in the script's list, name, and for each column the value and its text."""
    columns = _scene_columns(results)
    rows = []
    for place, name in enumerate(results.scenes()):
        scene = results.values["per_scene"][name]
        numbers = [number(scene.get("metrics", {}).get(c["method"], {}).get(c["metric"])) for c in columns]
        cells = [
            (value, written(value, results.style(c["metric"]).decimals))
            for value, c in zip(numbers, columns, strict=True)
        ]
        rows.append({"place": place, "number": scene.get("number", place), "name": name, "cells": cells})
    return rows
