"""Means of variants and planned differences between them, over seeds and scenes."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

RESAMPLES = 10_000
"""Number of bootstrap samples; the smallest p-value is 1 / (RESAMPLES + 1)."""
SHARE = 0.95
"""Share of the bootstrap samples inside an interval."""
_SEED = 0

Values = Mapping[int, Mapping[str, float]]
"""Seed -> scene -> value of a metric."""


@dataclass(frozen=True)
class StudyMean:
    """A mean over seeds and scenes.

    Attributes:
        mean: the mean.
        low: lower end of its 95 % bootstrap interval; None for one seed and one scene.
        high: upper end of the interval.
        seeds: number of seeds.
        scenes: number of scenes that all seeds have.
        seed_means: the mean over the scenes of each seed.
    """

    mean: float
    low: float | None
    high: float | None
    seeds: int
    scenes: int
    seed_means: tuple[float, ...]


@dataclass(frozen=True)
class Difference:
    """The second variant minus the first one, by the same seeds on the same scenes.

    Attributes:
        estimate: mean difference with its interval.
        p_value: two-sided, from the same bootstrap samples; None for one seed and one scene.
        corrected: the p-value after Holm's correction for all planned comparisons of the study.
    """

    estimate: StudyMean
    p_value: float | None
    corrected: float | None = None


def mean_of(values: Values) -> StudyMean | None:
    """The mean of a variant over the scenes that all seeds have; None if there are none."""
    table = _table(values)
    return _estimate(table)[0] if table.size else None


def difference_of(first: Values, second: Values) -> Difference | None:
    """``second`` minus ``first`` over the seeds and scenes that both have; None if there are none.

    Seeds and scenes are resampled independently of each other, because a seed affects all scenes and a scene is hard
    for all seeds.

    Source: Owen 2007, "The pigeonhole bootstrap"; Efron and Tibshirani 1993, "An Introduction to the Bootstrap",
    chapters 13 (percentile intervals) and 16 (tests).
    """
    seeds = sorted(first.keys() & second.keys())
    one, other = ({seed: values[seed] for seed in seeds} for values in (first, second))
    scenes = _common([*one.values(), *other.values()])
    table = np.array([[other[seed][scene] - one[seed][scene] for scene in scenes] for seed in seeds], np.float64)
    if not table.size:
        return None
    estimate, samples = _estimate(table)
    if samples is None:
        return Difference(estimate, None)
    beyond = min((samples <= 0).sum(), (samples >= 0).sum())
    return Difference(estimate, min(1.0, 2 * (float(beyond) + 1) / (RESAMPLES + 1)))


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """P-values corrected for several tests; None stays None and does not count.

    Source: Holm 1979, "A simple sequentially rejective multiple test procedure".
    """
    known = sorted((value, place) for place, value in enumerate(p_values) if value is not None)
    found: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (value, place) in enumerate(known):
        largest = max(largest, min(1.0, value * (len(known) - rank)))
        found[place] = largest
    return found


def _common(values: Iterable[Mapping[str, float]]) -> list[str]:
    """Scenes with a finite value in all mappings."""
    finite = [{scene for scene, value in each.items() if np.isfinite(value)} for each in values]
    return sorted(set.intersection(*finite)) if finite else []


def _table(values: Values) -> Float[np.ndarray, "seeds scenes"]:
    scenes = _common(values.values())
    return np.array([[values[seed][scene] for scene in scenes] for seed in sorted(values)], np.float64)


def _estimate(table: Float[np.ndarray, "seeds scenes"]) -> tuple[StudyMean, Float[np.ndarray, " resamples"] | None]:
    """The mean with its interval, and the means of the bootstrap samples."""
    seeds, scenes = table.shape
    rows = tuple(float(value) for value in table.mean(axis=1))
    if seeds * scenes == 1:
        return StudyMean(float(table.mean()), None, None, seeds, scenes, rows), None
    generator = np.random.default_rng(_SEED)
    samples = ((_shares(generator, seeds) @ table) * _shares(generator, scenes)).sum(axis=1)
    low, high = np.quantile(samples, [(1 - SHARE) / 2, (1 + SHARE) / 2])
    return StudyMean(float(table.mean()), float(low), float(high), seeds, scenes, rows), samples


def _shares(generator: np.random.Generator, count: int) -> Float[np.ndarray, "resamples count"]:
    """The share of each of ``count`` seeds or scenes in each bootstrap sample.

    A sample has ``count`` - 1 members, so that the variance is right for few seeds, too.

    Source: McCarthy and Snowden 1985, "The bootstrap and finite population sampling".
    """
    drawn = max(1, count - 1)
    return generator.multinomial(drawn, np.full(count, 1 / count), RESAMPLES) / drawn
