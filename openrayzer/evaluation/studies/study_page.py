"""The page of a study: tables, learning curves and pictures of the same clips side by side."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader
from markupsafe import Markup

from openrayzer.evaluation.report import read_metrics
from openrayzer.evaluation.report.names import method, written
from openrayzer.evaluation.report.svg import Drawing, ticks
from openrayzer.evaluation.results.output_folder import METRICS
from openrayzer.evaluation.studies.execution import is_evaluated
from openrayzer.evaluation.studies.results import StudyResults
from openrayzer.evaluation.studies.study_tables import (
    HOW,
    cost_table,
    difference_tables,
    markdown,
    mean_tables,
    run_table,
    scaling_tables,
)
from openrayzer.interfaces import InputError
from openrayzer.machine.writing import whole_file

PAGE, TABLE = "study.html", "study.md"
SCENES = 6
"""Scenes with pictures of each evaluation."""
WIDTH, LEFT, TOP, BOTTOM = 640.0, 52.0, 12.0, 262.0
DOT = 4.0
COLOURS = 7
"""Number of colours in the style sheet; further curves are dashed."""


def write_study(results: StudyResults, folder: Path) -> list[Path]:
    """Write metrics.json, study.md and study.html.

    The files depend on the results of the runs alone, not on interruptions.

    Raises:
        InputError: a file cannot be written.
    """
    texts = {
        METRICS: json.dumps(results.as_json(), indent=1, allow_nan=False) + "\n",
        TABLE: markdown(results),
        PAGE: render(results, folder),
    }
    try:
        for name, text in texts.items():
            with whole_file(folder / name, flush=False) as temporary:
                temporary.write_text(text, encoding="utf-8", errors="replace")
    except OSError as error:
        raise InputError(f"{folder}: cannot be written: {error.strerror or error}") from error
    return [folder / name for name in texts]


def render(results: StudyResults, folder: Path) -> str:
    """The page as text, with all data escaped; pictures are links to files below ``folder``."""
    environment = Environment(
        loader=PackageLoader("openrayzer.evaluation.studies"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("study.html").render(
        study=results.study,
        title=Path(results.study.experiment).stem,
        means=mean_tables(results),
        cost=cost_table(results),
        differences=difference_tables(results),
        runs=run_table(results),
        scaling=scaling_tables(results),
        fit=scaling_plot(results),
        how=HOW,
        curves=learning_curves(results),
        albums=[_album(results, name, folder) for name in results.study.evaluations],
        problems=[each for each in results.runs if each.problem],
    )


def learning_curves(results: StudyResults) -> Markup | None:
    """PSNR on held-out clips against optimizer steps: the mean of the seeds in a band from lowest to highest.

    None if no run was evaluated while it trained.
    """
    bands = {name: _band(results, name) for name in results.variants}
    bands = {name: band for name, band in bands.items() if band}
    if not bands:
        return None
    steps = [step for band in bands.values() for step in band]
    values = [value for band in bands.values() for found in band.values() for value in found]
    low, high, most = min(values) - 0.2, max(values) + 0.2, max(steps)
    described = "; ".join(
        f"{name}: {written(_mean(list(band.values())[-1]), 2)} at the end" for name, band in bands.items()
    )
    height = BOTTOM + 48 + 18 * len(bands)
    drawing = Drawing(WIDTH, height, title="PSNR on held-out clips against optimizer steps", description=described)

    def across(step: float) -> float:
        return LEFT + (WIDTH - LEFT - 14) * step / most

    def up(value: float) -> float:
        return BOTTOM - (BOTTOM - TOP) * (value - low) / (high - low)

    for value, text in ticks(low, high):
        drawing.line(LEFT, up(value), WIDTH - 14, up(value), "grid")
        drawing.text(LEFT - 6, up(value) + 4, text, anchor="end")
    for step, text in ticks(0.0, most):
        drawing.text(across(step), BOTTOM + 17, text, anchor="middle")
    drawing.text((LEFT + WIDTH) / 2, BOTTOM + 36, "optimizer steps  ·  PSNR in dB", anchor="middle")
    for place, (name, band) in enumerate(bands.items()):
        kind = f"v{place % COLOURS}" + (" dashed" if place >= COLOURS else "")
        lowest = [(across(step), up(min(found))) for step, found in band.items()]
        highest = [(across(step), up(max(found))) for step, found in band.items()]
        drawing.area([*lowest, *reversed(highest)], f"band {kind}")
        drawing.curve([(across(step), up(_mean(found))) for step, found in band.items()], f"curve {kind}")
        line = BOTTOM + 54 + 18 * place
        drawing.line(LEFT, line - 4, LEFT + 24, line - 4, f"curve {kind}")
        drawing.text(LEFT + 32, line, name)
    return drawing.markup()


def scaling_plot(results: StudyResults) -> Markup | None:
    """Left-out and forecast PSNR against the measured one, at the last step of each variant; None without a fit."""
    fit = results.scaling
    if fit is None:
        return None
    dots = [(name, measured, predicted, "v0") for name, (measured, predicted) in fit.left_out.items()]
    dots += [(each.variant, each.measured, each.predicted, "v1") for each in fit.forecasts if each.measured is not None]
    values = [value for _, one, other, _ in dots for value in (one, other)]
    low, high = min(values) - 0.2, max(values) + 0.2
    side = BOTTOM - TOP
    described = "; ".join(f"{name}: {one:.2f} measured, {other:.2f} predicted" for name, one, other, _ in dots)
    drawing = Drawing(LEFT + side + 200, BOTTOM + 48, title="Predicted against measured PSNR", description=described)

    def across(value: float) -> float:
        return LEFT + side * (value - low) / (high - low)

    def up(value: float) -> float:
        return BOTTOM - side * (value - low) / (high - low)

    for value, text in ticks(low, high):
        drawing.line(LEFT, up(value), LEFT + side, up(value), "grid")
        drawing.text(LEFT - 6, up(value) + 4, text, anchor="end")
        drawing.text(across(value), BOTTOM + 17, text, anchor="middle")
    drawing.line(across(low), up(low), across(high), up(high), "grid")
    for name, measured, predicted, kind in dots:
        drawing.circle(across(measured), up(predicted), DOT, f"dot {kind}", hint=f"{name}: {measured:.2f} dB")
    drawing.text(LEFT + side / 2, BOTTOM + 36, "measured PSNR in dB", anchor="middle")
    drawing.text(LEFT + side + 14, TOP + 14, "predicted PSNR in dB by")
    for place, (kind, text) in enumerate((("v0", "a fit to the other variants"), ("v1", "the forecast"))):
        drawing.circle(LEFT + side + 20, TOP + 34 + 20 * place, DOT, f"dot {kind}")
        drawing.text(LEFT + side + 32, TOP + 38 + 20 * place, text)
    return drawing.markup()


def _band(results: StudyResults, variant: str) -> dict[float, list[float]]:
    """Step -> PSNR of each seed, for the steps that all seeds have."""
    curves = [each.curve for each in results.runs if each.run.variant == variant and each.curve]
    steps = sorted(set.intersection(*(set(curve) for curve in curves))) if curves else []
    return {float(step): [curve[step] for curve in curves] for step in steps}


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _album(results: StudyResults, evaluation: str, folder: Path) -> dict[str, Any]:
    """Pictures of the first target of some scenes: the true view, then the render of the first seed of each variant.

    Only scenes with pictures of all variants are shown.
    """
    found: dict[str, Mapping[str, Any]] = {}
    places: dict[str, Path] = {}
    for each in results.runs:
        run = each.run
        if run.variant not in found and is_evaluated(run, evaluation):
            places[run.variant] = run.evaluated(evaluation)
            found[run.variant] = read_metrics(places[run.variant] / METRICS)
    if not found:
        return {"name": evaluation, "heads": [], "rows": []}
    first = next(iter(found))
    shown = [
        {name for name, entry in values["per_scene"].items() if entry.get("pictures")} for values in found.values()
    ]
    scenes = [name for name in found[first]["per_scene"] if all(name in names for names in shown)][:SCENES]
    placement = next(iter(found[first]["placements"]))
    rows = []
    for scene in scenes:
        target, path = next(iter(found[first]["per_scene"][scene]["pictures"]["target"].items()))
        pictures = [_address(places[first] / path, folder)]
        for variant, values in found.items():
            own = ((values["per_scene"].get(scene) or {}).get("pictures") or {}).get(placement) or {}
            pictures.append(_address(places[variant] / own[target], folder) if target in own else "")
        rows.append({"scene": scene, "pictures": pictures})
    return {"name": f"{evaluation}, {method(placement).lower()}", "heads": ["true view", *found], "rows": rows}


def _address(file: Path, folder: Path) -> str:
    return quote(os.path.relpath(file, folder))
