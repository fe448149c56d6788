"""Differences of two sides scene by scene, if both were measured in the same way."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import permutation_test

from openrayzer.evaluation.comparison.sides import Side
from openrayzer.evaluation.metrics.intervals import Mean, mean_over_scenes

FLIPS = 9999
"""Number of random choices of signs, if there are too many choices to try all."""
SEED = 0
DECIDES = {"image_size": "different image sizes", "crop": "different crops"}
"""Settings that must be equal, and the words for a difference."""
SAME_IMAGES = 0.1
"""Difference in dB of the nearest context view that other versions of image libraries can cause for the same images."""
REMARKABLE = ("precision", "protocol")
"""Settings that may differ; a note names the difference."""


@dataclass(frozen=True)
class Pair:
    """Second side minus first side, on the scenes that both have.

    Attributes:
        first: number of the side that is subtracted.
        second: number of the other side.
        differences: by scene, in order of names; empty if the two cannot be compared.
        mean: over the scenes, with its bootstrap interval.
        higher: number of scenes with a higher value of the second side.
        lower: number of scenes with a lower value; the other scenes are equal.
        p_value: of a two-sided sign-flip permutation test of no difference; None for fewer than 2 scenes.
        obstacles: why the two are not compared, one sentence each.
        notes: other differences, and missing scenes.
    """

    first: int
    second: int
    differences: dict[str, float]
    mean: Mean
    higher: int
    lower: int
    p_value: float | None
    obstacles: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Column:
    """One side, its method, and the values of the metric by scene."""

    side: Side
    method: str
    values: Mapping[str, float | None]


def pair(sides: Sequence[Side], first: int, second: int, *, methods: Sequence[str], metric: str) -> Pair:
    """Compare two sides by one metric.

    Args:
        sides: all sides.
        first: number of one side.
        second: number of the other side.
        methods: method of each side.
        metric: the metric.
    """
    columns = [
        _Column(sides[number], methods[number], sides[number].values(methods[number], metric))
        for number in (first, second)
    ]
    one, other = columns
    common = sorted(one.values.keys() & other.values.keys())
    obstacles = _obstacles(columns, common, metric)
    pairs = {scene: (one.values[scene], other.values[scene]) for scene in common}
    kept = {scene: b - a for scene, (a, b) in pairs.items() if a is not None and b is not None}
    notes = _notes(columns, common)
    if left_out := len(common) - len(kept):
        notes.append(f"{left_out} common scenes have a value that is not finite, and are left out")
    if obstacles:
        kept = {}
    changes = np.array(list(kept.values()), np.float64)
    return Pair(
        first,
        second,
        kept,
        mean_over_scenes(list(kept.values()), seed=SEED),
        int((changes > 0).sum()),
        int((changes < 0).sum()),
        sign_flip_p_value(changes) if len(changes) > 1 else None,
        tuple(obstacles),
        tuple(notes),
    )


def sign_flip_p_value(differences: np.ndarray) -> float:
    """Two-sided probability of a mean at least as far from 0 if the sign of each difference were random.

    All choices of signs are tried if there are at most ``FLIPS``; otherwise ``FLIPS`` random ones.

    Source: Fisher, The Design of Experiments, 1935, section 21.
    """
    result = permutation_test(
        (differences,), np.mean, permutation_type="samples", n_resamples=FLIPS, batch=100, vectorized=True,
        rng=np.random.default_rng(SEED),
    )  # fmt: skip
    return float(result.pvalue)


def _obstacles(columns: Sequence[_Column], common: Sequence[str], metric: str) -> list[str]:
    lacking = [
        f"{column.side.folder} has no {metric} of single scenes for {column.method}"
        for column in columns
        if not column.values
    ]
    if lacking:
        return lacking
    if not common:
        return ["they have no scene in common"]
    one, other = (column.side for column in columns)
    found = [
        f"{words}: {one.settings[key]} and {other.settings[key]}"
        for key, words in DECIDES.items()
        if key in one.settings and key in other.settings and one.settings[key] != other.settings[key]
    ]
    found += _other_definitions(one, other, metric)
    if unknown := [str(side.folder) for side in (one, other) if not all(scene in side.views for scene in common)]:
        found.append(f"{' and '.join(unknown)} has no record of its views")
    elif other_views := [scene for scene in common if one.views[scene] != other.views[scene]]:
        count = f"{len(other_views)} of {len(common)} common scenes"
        found.append(f"different context or target views in {count}, e.g. {other_views[0]!r}")
    return found or _other_images(one, other, common)


def _other_definitions(one: Side, other: Side, metric: str) -> list[str]:
    if metric not in one.definitions or metric not in other.definitions:
        return []
    first, second = one.definitions[metric], other.definitions[metric]
    found = []
    if first.text != second.text:
        found.append(f"different definitions of {metric}: {first.text} and {second.text}")
    if first.weights != second.weights:
        found.append(f"different weights of {metric}: {first.weights} and {second.weights}")
    return found


def _other_images(one: Side, other: Side, common: Sequence[str]) -> list[str]:
    """An obstacle if the nearest context view, which does not depend on the model, has another PSNR."""
    values = [side.values("nearest_context", "psnr") for side in (one, other)]
    pairs = {scene: (values[0].get(scene), values[1].get(scene)) for scene in common}
    far = [scene for scene, (a, b) in pairs.items() if a is not None and b is not None and abs(a - b) > SAME_IMAGES]
    if not far:
        return []
    a, b = pairs[far[0]]
    return [
        f"different images in {len(far)} of {len(common)} common scenes: the nearest context view of {far[0]!r} has "
        f"{a:.2f} dB and {b:.2f} dB"
    ]


def _notes(columns: Sequence[_Column], common: Sequence[str]) -> list[str]:
    one, other = (column.side for column in columns)
    notes = []
    if columns[0].method != columns[1].method:
        notes.append(f"targets are placed in two ways: {columns[0].method} and {columns[1].method}")
    for column in columns:
        if common and (more := len(column.values) - len(common)):
            notes.append(f"{more} of {len(column.values)} scenes are only in {column.side.folder}")
    sums = [(side.settings.get("index") or {}).get("sha256") for side in (one, other)]
    if all(sums) and sums[0] != sums[1]:
        notes.append(
            "their index files have different checksums; the views of the common scenes were compared one by one"
        )
    for key in REMARKABLE:
        if key in one.settings and key in other.settings and one.settings[key] != other.settings[key]:
            notes.append(f"{key}: {one.settings[key]} and {other.settings[key]}")
    for key in DECIDES:
        if (key in one.settings) != (key in other.settings):
            notes.append(f"{(other if key in one.settings else one).folder} has no record of its {key}")
    return notes
