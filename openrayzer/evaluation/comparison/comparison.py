"""Runs and evaluations in one table, as curves against what they cost, and in pairs."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from openrayzer.evaluation.comparison.scene_pairs import SEED, Pair, pair
from openrayzer.evaluation.comparison.sides import Side, read_side
from openrayzer.evaluation.metrics.intervals import Mean, mean_over_scenes
from openrayzer.interfaces import InputError
from openrayzer.planning.flops import step_flops


@dataclass(frozen=True)
class Entry:
    """A row of the table.

    Attributes:
        name: the folder's name; its whole path where two are called alike.
        method: by which it is judged.
        step: of the weights.
        seconds: of training until then.
        flops: of training until then.
        means: of each metric over the scenes.
        curve: step, seconds, FLOPs and value of the metric compared at each evaluation while training.
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
    """What came of it; ``notes`` say what could not be had."""

    metric: str
    entries: tuple[Entry, ...]
    pairs: tuple[Pair, ...]
    notes: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """Everything, as plain values; sides of pairs by name."""
        names = [entry.name for entry in self.entries]
        pairs = [asdict(one) | {"first": names[one.first], "second": names[one.second]} for one in self.pairs]
        return {
            "metric": self.metric,
            "entries": [asdict(entry) for entry in self.entries],
            "pairs": pairs,
            "notes": list(self.notes),
        }


def compare(
    folders: Sequence[Path],
    *,
    metric: str,
    method: str = "",
    flops: Callable[[Path], float] = step_flops,
) -> Comparison:
    """Put folders beside each other; each after the first is paired with the first.

    Args:
        folders: runs, and folders that tools/evaluate.py wrote.
        metric: for curves and pairs, e.g. psnr.
        method: by which all are judged, e.g. joint; empty takes each one's first placement.
        flops: operations of one optimizer step of the run in a folder.

    Raises:
        InputError: a folder is neither, or none has the metric or the method.
    """
    sides = [read_side(folder) for folder in folders]
    methods = [side.method(method) for side in sides]
    _check(sides, methods, metric=metric, method=method)
    notes = [note for side in sides for note in side.notes]
    names = _names(folders)
    entries = []
    for name, side, own in zip(names, sides, methods, strict=True):
        each, note = _step_flops(side, flops)
        notes += [note] if note else []
        entries.append(_entry(name, side, own, metric=metric, each=each))
    pairs = tuple(pair(sides, 0, second, methods=methods, metric=metric) for second in range(1, len(sides)))
    return Comparison(metric, tuple(entries), pairs, tuple(dict.fromkeys(notes)))


def _entry(name: str, side: Side, method: str, *, metric: str, each: float | None) -> Entry:
    metrics = dict.fromkeys(key for scene in side.scenes.values() for key in scene.get(method, {}))
    means = {}
    for key in metrics:
        values = [float("nan") if value is None else value for _, value in sorted(side.values(method, key).items())]
        means[key] = mean_over_scenes(values, seed=SEED)
    log, test_name = side.log, side.test_name(method, metric)
    curve = []
    for line in log.test if log else ():
        value = line.get(test_name)
        if isinstance(value, int | float):
            step = line["step"]
            curve.append((step, log.seconds_until(step) if log else None, each * step if each else None, float(value)))
    if not means and curve:  # nothing of single scenes: the last evaluation while training has the mean
        means = {metric: Mean(curve[-1][-1], None, None, None, 0, 0)}
    seconds = log.seconds_until(side.step) if log and side.step is not None else None
    flops = each * side.step if each is not None and side.step is not None else None
    return Entry(name, method, side.step, seconds, flops, means, tuple(curve))


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
        raise InputError(f"no scene was judged by the method {method!r}; known: {', '.join(known)}")
    metrics = dict.fromkeys(
        key
        for side, own in zip(sides, methods, strict=True)
        for scene in side.scenes.values()
        for key in scene.get(own, {})
    )
    logged = any(line.get(side.test_name(own, metric)) is not None
                 for side, own in zip(sides, methods, strict=True) if side.log for line in side.log.test)  # fmt: skip
    if metric not in metrics and not logged:
        raise InputError(f"nothing here has the metric {metric!r}; known: {', '.join(metrics) or 'none'}")


def _names(folders: Sequence[Path]) -> list[str]:
    short = [folder.resolve().name for folder in folders]
    return short if len(set(short)) == len(short) else [str(folder) for folder in folders]
