"""The results of a study, read from the folders of its runs."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from openrayzer.evaluation.comparison.run_log import read_run_log
from openrayzer.evaluation.report import read_metrics
from openrayzer.evaluation.report.names import EXCHANGED, MetricStyle, metric_style
from openrayzer.evaluation.results.output_folder import METRICS
from openrayzer.evaluation.studies.execution import is_evaluated
from openrayzer.evaluation.studies.planned_runs import CLIPS, STEPS, PlannedRun, Variant
from openrayzer.evaluation.studies.scaling import Points, ScalingFit, fit_scaling
from openrayzer.evaluation.studies.study_file import Study
from openrayzer.evaluation.studies.study_statistics import Difference, StudyMean, Values, difference_of, holm, mean_of
from openrayzer.interfaces import InputError
from openrayzer.weights.run_layout import METRICS as LOG

K = TypeVar("K")
V = TypeVar("V")
FORMAT = 1
"""Version of metrics.json of a study."""
SANITY, TRANSFER = "sanity.", "transfer."
"""Start of the names of checks of the sanity battery, and of transfer scores, among the metrics."""
CAMERA_GAIN = "camera_gain"
"""Name of the PSNR minus the PSNR with exchanged target cameras."""
Key = tuple[str, str, str]
"""Evaluation, placement, metric."""


@dataclass(frozen=True)
class RunResult:
    """One run as a row of the table of runs.

    Attributes:
        run: the run.
        seconds: seconds of training; None if it has no complete log.
        problem: the reason why it failed; empty if it is complete.
        curve: step -> PSNR on held-out clips while training.
    """

    run: PlannedRun
    seconds: float | None
    problem: str
    curve: Mapping[int, float]


@dataclass(frozen=True)
class StudyResults:
    """All numbers of a study.

    Attributes:
        study: the study.
        variants: its variants by name.
        steps: optimizer steps of each variant.
        runs: all runs.
        means: for each evaluation, placement and metric, the mean of each variant that has it.
        differences: the same for the planned comparisons, as second minus first.
        labels: section ``metrics`` of the evaluations, which describes image metrics.
        scaling: the fit of the error to sizes; None if the study asks for none or has too few runs yet.
    """

    study: Study
    variants: Mapping[str, Variant]
    steps: Mapping[str, int]
    runs: Sequence[RunResult]
    means: Mapping[Key, Mapping[str, StudyMean]]
    differences: Mapping[Key, Mapping[tuple[str, str], Difference]]
    labels: Mapping[str, Any]
    scaling: ScalingFit | None = None

    def style(self, metric: str) -> MetricStyle:
        """Label and number format of a metric."""
        if metric.startswith(SANITY):
            return MetricStyle(f"Sanity: {metric.removeprefix(SANITY).replace('_', ' ')}", 2, "higher")
        if metric.startswith(TRANSFER):
            own = self.style(metric.removeprefix(TRANSFER))
            return replace(own, label=f"Transfer: {own.label}")
        if metric == CAMERA_GAIN:
            return MetricStyle("PSNR lost when cameras are exchanged, dB", 2, "higher")
        return metric_style(metric, self.labels)

    def seconds(self, variant: str) -> float | None:
        """Mean seconds of training of the runs of a variant."""
        known = [each.seconds for each in self.runs if each.run.variant == variant and each.seconds is not None]
        return sum(known) / len(known) if known else None

    def flops(self, variant: str) -> float | None:
        """Floating point operations of one training of a variant."""
        each = self.variants[variant].step_flops
        return None if each is None else each * self.steps[variant]

    def as_json(self) -> dict[str, Any]:
        """The content of metrics.json."""
        return {
            "format": FORMAT,
            "study": asdict(self.study),
            "variants": {
                name: {
                    "changes": variant.changes, "weights": variant.weights, "steps": self.steps[name],
                    "flops": self.flops(name), "seconds": self.seconds(name),
                }
                for name, variant in self.variants.items()
            },
            "runs": [
                {"variant": each.run.variant, "seed": each.run.seed, "folder": str(each.run.folder),
                 "seconds": each.seconds, "problem": each.problem}
                for each in self.runs
            ],
            "means": [
                dict(zip(("evaluation", "placement", "metric"), key, strict=True)) | {"variant": name, **asdict(value)}
                for key, of in self.means.items()
                for name, value in of.items()
            ],
            "differences": [
                dict(zip(("evaluation", "placement", "metric"), key, strict=True))
                | {"first": first, "second": second, **asdict(value)}
                for key, of in self.differences.items()
                for (first, second), value in of.items()
            ],
            "scaling": self.scaling and self.scaling.as_json(),
        }  # fmt: skip


def read_results(
    study: Study,
    variants: Mapping[str, Variant],
    steps: Mapping[str, int],
    runs: Sequence[PlannedRun],
    failed: Mapping[Path, str],
) -> StudyResults:
    """Read the evaluations of all runs that have them.

    Raises:
        InputError: an evaluation is broken, or no evaluation has one of the metrics.
    """
    values: dict[Key, dict[str, dict[int, dict[str, float]]]] = {}
    labels: dict[str, Any] = {}
    for run in runs:
        for name in run.evaluations:
            if is_evaluated(run, name):
                found = read_metrics(run.evaluated(name) / METRICS)
                labels |= found.get("metrics") or {}
                for (placement, metric), scenes in _values(found, study.shown).items():
                    of_variants = values.setdefault((name, placement, metric), {})
                    of_variants.setdefault(run.variant, {})[run.seed] = scenes
    if values and (unknown := [name for name in study.shown if name not in {metric for _, _, metric in values}]):
        raise InputError(f"no evaluation of the study has the metric {unknown[0]!r}")
    means = {key: _known({name: mean_of(seeds) for name, seeds in of.items()}) for key, of in values.items()}
    found_runs = [_run_result(run, failed) for run in runs]
    return StudyResults(
        study, variants, steps, found_runs, means, _differences(study, values), labels,
        _scaling(study, variants, steps, found_runs),
    )  # fmt: skip


def _scaling(
    study: Study, variants: Mapping[str, Variant], steps: Mapping[str, int], runs: Sequence[RunResult]
) -> ScalingFit | None:
    """The fit to the mean PSNR of the seeds at every step at which all runs of a variant were evaluated."""
    if study.scaling is None:
        return None
    names: list[str] = []
    sizes: list[list[float]] = []
    psnr: list[float] = []
    ends: dict[str, float] = {}
    for name, variant in variants.items():
        curves = [each.curve for each in runs if each.run.variant == name]
        if not all(curves):
            continue
        common = sorted(set.intersection(*(set(curve) for curve in curves)))
        means = {step: sum(curve[step] for curve in curves) / len(curves) for step in common}
        if name in study.forecast:
            if steps[name] in means:
                ends[name] = means[steps[name]]
            continue
        for step, mean in means.items():
            names.append(name)
            sizes.append(_sizes(variant, step))
            psnr.append(mean)
    forecasts = {name: (_sizes(variants[name], steps[name]), ends.get(name)) for name in study.forecast}
    return fit_scaling(study.scaling.sizes, Points(names, np.array(sizes), np.array(psnr)), forecasts)


def _sizes(variant: Variant, step: int) -> list[float]:
    return [value * step if name in (STEPS, CLIPS) else value for name, value in variant.sizes.items()]


def _values(found: Mapping[str, Any], metrics: Sequence[str]) -> dict[tuple[str, str], dict[str, float]]:
    """Placement and metric -> scene -> value. A number of all scenes together has "all" as its scene."""
    values: dict[tuple[str, str], dict[str, float]] = {}
    for placement in found["placements"]:
        numbers = {scene: _numbers(entry, placement) for scene, entry in found["per_scene"].items()}
        numbers["all"] = _numbers_of_all(found, placement)
        for scene, known in numbers.items():
            for metric in metrics:
                if (value := known.get(metric)) is not None:
                    values.setdefault((placement, metric), {})[scene] = float(value)
    return values


def _numbers(entry: Mapping[str, Any], placement: str) -> dict[str, float | None]:
    """The numbers of one scene."""
    numbers: dict[str, float | None] = {}
    for section in ("metrics", "poses", "depth"):
        numbers |= (entry.get(section) or {}).get(placement) or {}
    exchanged = (entry["metrics"].get(placement + EXCHANGED) or {}).get("psnr")
    if exchanged is not None and (psnr := numbers.get("psnr")) is not None:
        numbers[CAMERA_GAIN] = psnr - exchanged
    return numbers


def _numbers_of_all(found: Mapping[str, Any], placement: str) -> dict[str, float | None]:
    """The numbers of all scenes together."""
    checks = (found.get("sanity") or {}).get(placement) or {}
    transfer = ((found.get("transfer") or {}).get(placement) or {}).get("driven") or {}
    return {SANITY + name: check.get("passed") for name, check in checks.items()} | {
        TRANSFER + name: value for name, value in transfer.items()
    }


def _differences(
    study: Study, values: Mapping[Key, Mapping[str, Values]]
) -> dict[Key, dict[tuple[str, str], Difference]]:
    found = {
        key: _known({pair: difference_of(of.get(pair[0], {}), of.get(pair[1], {})) for pair in study.pairs})
        for key, of in values.items()
        if key[2] in study.metrics
    }
    places = [(key, pair) for key, of in found.items() for pair in of]
    for (key, pair), corrected in zip(places, holm([found[key][pair].p_value for key, pair in places]), strict=True):
        found[key][pair] = replace(found[key][pair], corrected=corrected)
    return found


def _known(values: Mapping[K, V | None]) -> dict[K, V]:
    return {key: value for key, value in values.items() if value is not None}


def _run_result(run: PlannedRun, failed: Mapping[Path, str]) -> RunResult:
    file = run.folder / LOG
    if not file.is_file():
        return RunResult(run, None, failed.get(run.folder, "not started"), {})
    log = read_run_log(file)
    curve = {int(line["step"]): float(line["psnr"]) for line in log.test if _finite(line.get("psnr"))}
    missing = "" if all(is_evaluated(run, name) for name in run.evaluations) else "not complete"
    return RunResult(run, log.seconds_until(run.steps), failed.get(run.folder, missing), curve)


def _finite(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
