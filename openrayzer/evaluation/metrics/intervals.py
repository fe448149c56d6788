"""Means over scenes with bootstrap intervals."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 1000
"""Number of bootstrap samples."""
SHARE = 0.95
"""Share of the bootstrap samples inside an interval."""
_AT_ONCE = 50  # samples drawn together; thousands of scenes fit in memory


@dataclass(frozen=True)
class Mean:
    """The mean of one number over scenes.

    Attributes:
        mean: mean of the finite values; None if there are none.
        std: their standard deviation (n - 1); None for fewer than 2 values.
        low: lower end of the 95 % bootstrap interval; None for fewer than 2 values.
        high: upper end of the interval.
        scenes: number of finite values.
        not_finite: number of other values, which are left out.
    """

    mean: float | None
    std: float | None
    low: float | None
    high: float | None
    scenes: int
    not_finite: int


def mean_over_scenes(values: Sequence[float], *, seed: int) -> Mean:
    """Mean, standard deviation and percentile bootstrap interval of the finite values.

    Args:
        values: one per scene. The interval depends on their order, so the order must not vary.
        seed: seed of the resampling.

    Source: Efron, Bootstrap methods: another look at the jackknife, 1979; percentile intervals.
    """
    finite = np.array([value for value in values if math.isfinite(value)], np.float64)
    count, left_out = len(finite), len(values) - len(finite)
    if count == 0:
        return Mean(None, None, None, None, 0, left_out)
    if count == 1:
        return Mean(float(finite[0]), None, None, None, 1, left_out)
    generator = np.random.default_rng(seed)
    samples = np.concatenate(
        [finite[generator.integers(0, count, (_AT_ONCE, count))].mean(axis=1) for _ in range(RESAMPLES // _AT_ONCE)]
    )
    low, high = np.quantile(samples, [(1 - SHARE) / 2, (1 + SHARE) / 2])
    return Mean(float(finite.mean()), float(finite.std(ddof=1)), float(low), float(high), count, left_out)


def paired_difference(first: Mapping[str, float], second: Mapping[str, float], *, seed: int) -> Mean:
    """Mean of ``first`` minus ``second`` over the scenes that both have."""
    both = sorted(first.keys() & second.keys())
    return mean_over_scenes([first[scene] - second[scene] for scene in both], seed=seed)
