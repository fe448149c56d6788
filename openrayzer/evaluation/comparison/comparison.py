"""Runs and evaluations in one table, as curves against their cost, and in pairs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from openrayzer.evaluation.comparison.scene_pairs import SEED, Pair, pair
from openrayzer.evaluation.comparison.sides import Side, read_side
from openrayzer.evaluation.metrics.intervals import Mean, mean_over_scenes
from openrayzer.evaluation.report.names import MetricStyle, metric_style
from openrayzer.evaluation.results.record_names import record_name
from openrayzer.interfaces import InputError
from openrayzer.planning.flops import step_flops


@dataclass(frozen=True)
class ComparedRun:
    """A row of the table.

    Attributes:
        name: name of the folder, or its path if two folders have the same name.
        method: the compared method.
        step: optimizer step of the weights.
        seconds: seconds of training up to that step.
        flops: FLOPs of training up to that step.
        means: mean over the scenes of each metric.
        curve: step, seconds, FLOPs and value of the compared metric at each evaluation while training.
    """

    name: str
    method: str
    step: int | None
    seconds: float | None
    flops: float | None
    means: dict[str, Mean]
    curve: tuple[tuple[int, float | None, float | None, float], ...]


@dataclass(frozen=True)
class Comparison:
    """The result of a comparison.

    Attributes:
        metric: the compared metric.
        entries: one row per side.
        pairs: differences of each other side to the first.
        notes: remarks on missing numbers.
        described: descriptions of the metrics, from the section ``metrics`` of the evaluations.
    """

    metric: str
    entries: tuple[ComparedRun, ...]
    pairs: tuple[Pair, ...]
    notes: tuple[str, ...]
    described: Mapping[str, Any]

    def style(self, metric: str) -> MetricStyle:
        """Label and number format of a metric."""
        return metric_style(metric, self.described)

    def as_json(self) -> dict[str, Any]:
        """The content of comparison.json; pairs name their sides."""
        names = [entry.name for entry in self.entries]
        pairs = [asdict(one) | {"first": names[one.first], "second": names[one.second]} for one in self.pairs]
        return {
            "metric": self.metric,
            "entries": [asdict(entry) for entry in self.entries],
            "pairs": pairs,
            "notes": list(self.notes),
        }


def compare(
    folders: Sequence[Path | str],
    *,
    metric: str,
    method: str = "",
    flops: Callable[[Path], float] = step_flops,
) -> Comparison:
    """Compare folders; each other folder is paired with the first.

    Args:
        folders: run folders, and folders that `openrayzer evaluate` has written.
        metric: metric of curves and pairs, e.g. psnr.
        method: method to compare, e.g. joint; empty takes the first placement of each folder.
        flops: FLOPs of one optimizer step of the run in a folder.

    Raises:
        InputError: a folder is neither, or no folder has the metric or the method.
    """
    paths = [Path(folder) for folder in folders]
    sides = [read_side(folder) for folder in paths]
    methods = [side.method(method) for side in sides]
    _check(sides, methods, metric=metric, method=method)
    notes = [note for side in sides for note in side.notes]
    names = _names(paths)
    entries = []
    for name, side, own in zip(names, sides, methods, strict=True):
        each, note = _step_flops(side, flops)
        notes += [note] if note else []
        entries.append(_entry(name, side, own, metric=metric, each=each))
    pairs = tuple(pair(sides, 0, second, methods=methods, metric=metric) for second in range(1, len(sides)))
    described = {name: about for side in sides for name, about in side.labels.items()}
    return Comparison(metric, tuple(entries), pairs, tuple(dict.fromkeys(notes)), described)


def _entry(name: str, side: Side, method: str, *, metric: str, each: float | None) -> ComparedRun:
    metrics = dict.fromkeys(key for scene in side.scenes.values() for key in scene.get(method, {}))
    means = {}
    for key in metrics:
        values = [float("nan") if value is None else value for _, value in sorted(side.values(method, key).items())]
        means[key] = mean_over_scenes(values, seed=SEED)
    log, logged_as = side.log, record_name(metric, method)
    curve = []
    for line in log.test if log else ():
        value = line.get(logged_as)
        if isinstance(value, int | float):
            step = line["step"]
            curve.append((step, log.seconds_until(step) if log else None, each * step if each else None, float(value)))
    if not means and curve:  # without numbers of single scenes, the mean of the last evaluation while training
        means = {metric: Mean(curve[-1][-1], None, None, None, 0, 0)}
    seconds = log.seconds_until(side.step) if log and side.step is not None else None
    flops = each * side.step if each is not None and side.step is not None else None
    return ComparedRun(name, method, side.step, seconds, flops, means, tuple(curve))


def _step_flops(side: Side, count: Callable[[Path], float]) -> tuple[float | None, str]:
    if side.run is None:
        return None, ""
    try:
        return count(side.run), ""
    except InputError as error:
        return None, f"{side.folder}: FLOPs are not counted: {error}"


def _check(sides: Sequence[Side], methods: Sequence[str], *, metric: str, method: str) -> None:
    known = dict.fromkeys(name for side in sides for name in side.methods)
    if method and known and method not in known:
        raise InputError(f"no scene has the method {method!r}; known: {', '.join(known)}")
    metrics = dict.fromkeys(
        key
        for side, own in zip(sides, methods, strict=True)
        for scene in side.scenes.values()
        for key in scene.get(own, {})
    )
    logged = any(line.get(record_name(metric, own)) is not None
                 for side, own in zip(sides, methods, strict=True) if side.log for line in side.log.test)  # fmt: skip
    if metric not in metrics and not logged:
        raise InputError(f"no folder has the metric {metric!r}; known: {', '.join(metrics) or 'none'}")


def _names(folders: Sequence[Path]) -> list[str]:
    short = [folder.resolve().name for folder in folders]
    return short if len(set(short)) == len(short) else [str(folder) for folder in folders]
