"""The tables of a study as rows of text, for the page and for Markdown."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from openrayzer.evaluation.report.names import DASH, MetricStyle, method, written
from openrayzer.evaluation.studies.results import StudyResults
from openrayzer.evaluation.studies.study_statistics import Difference, StudyMean

LEVEL = 0.05
"""A difference with a corrected p-value below this is significant."""


@dataclass(frozen=True)
class StudyTable:
    """A table with a title."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]


def mean_tables(results: StudyResults) -> list[StudyTable]:
    """For each evaluation and placement, the metrics of all variants with their intervals."""
    tables = []
    for evaluation, placement in dict.fromkeys((key[0], key[1]) for key in results.means):
        metrics = [name for name in results.study.shown if (evaluation, placement, name) in results.means]
        rows = [
            [name, *(_mean(results.means[evaluation, placement, metric].get(name), results.style(metric))
                     for metric in metrics)]
            for name in results.variants
        ]  # fmt: skip
        heads = ["variant", *(results.style(metric).label for metric in metrics)]
        tables.append(StudyTable(f"{evaluation}, {method(placement).lower()}", heads, rows))
    return tables


def cost_table(results: StudyResults) -> StudyTable:
    """The cost of a training of each variant, also as a ratio to the first variant."""
    first = next(iter(results.variants))
    rows = [
        [
            name,
            f"{variant.weights:,}",
            f"{results.steps[name]:,}",
            f"{results.steps[name] * variant.batch_size:,}",
            _flops(results.flops(name)),
            _ratio(results.flops(name), results.flops(first)),
            written(results.seconds(name), 0),
            _ratio(results.seconds(name), results.seconds(first)),
        ]
        for name, variant in results.variants.items()
    ]
    heads = ("variant", "weights", "steps", "clips", "FLOPs", "ratio", "seconds of training", "ratio")
    return StudyTable("Cost of one training", heads, rows)


def difference_tables(results: StudyResults) -> list[StudyTable]:
    """For each evaluation and placement, the planned differences."""
    tables = []
    for evaluation, placement in dict.fromkeys((key[0], key[1]) for key in results.differences):
        rows = []
        for metric in results.study.metrics:
            style = results.style(metric)
            for (first, second), each in results.differences.get((evaluation, placement, metric), {}).items():
                rows.append([f"{second} minus {first}", style.label, *_difference(each, style)])
        if rows:
            heads = ("comparison", "metric", "difference", "seeds", "scenes", "p, corrected", "reading")
            tables.append(StudyTable(f"{evaluation}, {method(placement).lower()}", heads, rows))
    return tables


def scaling_tables(results: StudyResults) -> list[StudyTable]:
    """The fitted law, its residuals, and its forecasts; none without a fit."""
    fit = results.scaling
    if fit is None:
        return []
    floor = -10 * math.log10(fit.law.floor)
    law = [
        [name, f"{exponent:.2f} ({low:.2f} to {high:.2f})", f"{scale:.3g}"]
        for name, exponent, scale, (low, high) in zip(
            fit.sizes, fit.law.exponents, fit.law.scales, fit.exponent_intervals, strict=True
        )
    ]
    off = [
        [name, written(fit.residuals[name], 2, sign=True), written(measured - predicted, 2, sign=True)]
        for name, (measured, predicted) in fit.left_out.items()
    ]
    ahead = [
        [each.variant, f"{each.predicted:.2f} ({each.low:.2f} to {each.high:.2f})", written(each.measured, 2),
         DASH if each.measured is None else written(each.measured - each.predicted, 2, sign=True)]
        for each in fit.forecasts
    ]  # fmt: skip
    title = (
        f"Fit: error = floor + sum of (scale / size) ** exponent; {fit.points} points, root mean square of the "
        f"residuals {fit.deviation:.2f} dB, limit of the PSNR {floor:.1f} dB"
    )
    return [
        StudyTable(title, ("size", "exponent", "scale"), law),
        StudyTable("Forecast, PSNR in dB", ("variant", "predicted", "measured", "measured minus predicted"), ahead),
        StudyTable(
            "Residuals, PSNR in dB", ("variant", "measured minus fitted", "last step, fit without this variant"), off
        ),
    ]


def run_table(results: StudyResults) -> StudyTable:
    """All runs with their folders."""
    rows = [
        [
            each.run.variant,
            str(each.run.seed),
            written(each.seconds, 0),
            str(each.run.folder),
            each.problem or "complete",
        ]
        for each in results.runs
    ]
    return StudyTable("Runs", ("variant", "seed", "seconds of training", "folder", "state"), rows)


def markdown(results: StudyResults) -> str:
    """All tables except the table of runs, and a line for each run that is not complete."""
    lines = []
    for table in (
        *mean_tables(results), cost_table(results), *difference_tables(results), *scaling_tables(results)
    ):  # fmt: skip
        lines += [
            f"**{table.title}**",
            "",
            _row(table.head),
            _row(["---"] * len(table.head)),
            *map(_row, table.rows),
            "",
        ]
    lines += [HOW, ""]
    lines += [f"- {each.run.folder}: {each.problem}" for each in results.runs if each.problem]
    return "\n".join(lines)


HOW = (
    "Means over seeds and scenes with 95 % intervals. Seeds and scenes are resampled independently of each other. "
    "P-values are corrected by Holm's method for all planned comparisons of the study. "
    "One seed says nothing about other seeds."
)


def _difference(each: Difference, style: MetricStyle) -> list[str]:
    estimate = each.estimate
    corrected = DASH if each.corrected is None else f"{each.corrected:.2g}"
    return [
        _mean(estimate, style, sign=True),
        str(estimate.seeds),
        str(estimate.scenes),
        corrected,
        _reading(each, style),
    ]


def _reading(each: Difference, style: MetricStyle) -> str:
    """The conclusion from a difference, in words."""
    estimate = each.estimate
    if each.corrected is None or estimate.low is None or estimate.high is None:
        return "one value, no interval"
    if estimate.seeds == 1:
        return "one seed: holds for these two trainings only"
    if each.corrected >= LEVEL:
        low, high = (written(value, style.decimals, sign=True) for value in (estimate.low, estimate.high))
        return f"not shown to differ; differences from {low} to {high} are possible"
    up = estimate.mean > 0
    if style.better:
        return "better" if up == (style.better == "higher") else "worse"
    return "higher" if up else "lower"


def _mean(estimate: StudyMean | None, style: MetricStyle, *, sign: bool = False) -> str:
    if estimate is None:
        return DASH
    text = written(estimate.mean, style.decimals, sign=sign)
    if estimate.low is None or estimate.high is None:
        return text
    low, high = (written(value, style.decimals, sign=sign) for value in (estimate.low, estimate.high))
    return f"{text} ({low} to {high})"


def _flops(value: float | None) -> str:
    return DASH if value is None else f"{value:.3g}"


def _ratio(value: float | None, first: float | None) -> str:
    return DASH if value is None or not first else f"{value / first:.2f}"


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
