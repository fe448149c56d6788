"""Fits of the held-out error to sizes of model, data and training, and forecasts."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.optimize import least_squares

RESAMPLES = 200
"""Number of bootstrap samples of variants."""
SHARE = 0.95
DECIBELS = 10 / np.log(10)
"""PSNR lost when the mean squared error grows by the factor e."""
_ROBUST = 0.02
"""Residuals of the logarithm of the error above this count linearly."""
_EXPONENTS = (0.1, 0.3, 1.0)
"""First guesses of all exponents."""
_TYPICAL = 0.5
"""Mean and standard deviation of the prior of the exponents. It keeps an exponent finite if the points do not determine
it, and counts as much as one residual of size ``_ROBUST``."""
_SEED = 0


@dataclass(frozen=True)
class Points:
    """Held-out PSNR of the variants at several sizes.

    Attributes:
        variants: name of the variant of each point.
        sizes: value of each size.
        psnr: PSNR in dB.
    """

    variants: Sequence[str]
    sizes: Float[np.ndarray, "n k"]
    psnr: Float[np.ndarray, " n"]

    def of(self, variants: Sequence[str]) -> "Points":
        """The points of some variants, as often as each variant stands in ``variants``."""
        places = [place for name in variants for place, own in enumerate(self.variants) if own == name]
        return Points([self.variants[place] for place in places], self.sizes[places], self.psnr[places])

    @property
    def names(self) -> list[str]:
        """The variants, each once."""
        return list(dict.fromkeys(self.variants))


@dataclass(frozen=True)
class Law:
    """error = floor + sum over sizes of (scale / size) ** exponent.

    Attributes:
        floor: smallest error.
        scales: size at which the term of a size is 1, by size.
        exponents: exponent of each size.
    """

    floor: float
    scales: Float[np.ndarray, " k"]
    exponents: Float[np.ndarray, " k"]

    def psnr(self, sizes: Float[np.ndarray, "n k"]) -> Float[np.ndarray, " n"]:
        """Predicted PSNR in dB."""
        return -10 * np.log10(self.floor + ((self.scales / sizes) ** self.exponents).sum(axis=1))


@dataclass(frozen=True)
class Forecast:
    """A prediction for a variant outside of the fit.

    Attributes:
        variant: its name.
        predicted: PSNR in dB.
        low: lower end of the 95 % interval over resampled variants.
        high: upper end of the interval.
        measured: mean PSNR of its runs at the same step; None before they are complete.
    """

    variant: str
    predicted: float
    low: float
    high: float
    measured: float | None


@dataclass(frozen=True)
class ScalingFit:
    """A fit with its uncertainty.

    Attributes:
        sizes: names of the sizes.
        law: the fit to all variants but those of the forecast.
        exponent_intervals: 95 % interval of each exponent over resampled variants.
        residuals: variant -> measured minus fitted PSNR in dB, mean over its points.
        left_out: variant -> measured PSNR at its last step, and the prediction by a fit without this variant.
        points: number of points of the fit.
        deviation: root mean square of the residuals of all points in dB.
        forecasts: the predictions.
    """

    sizes: tuple[str, ...]
    law: Law
    exponent_intervals: Sequence[tuple[float, float]]
    residuals: Mapping[str, float]
    left_out: Mapping[str, tuple[float, float]]
    points: int
    deviation: float
    forecasts: Sequence[Forecast]

    def as_json(self) -> dict[str, Any]:
        """The fit for metrics.json."""
        law = self.law
        return asdict(self) | {
            "law": {"floor": law.floor, "scales": law.scales.tolist(), "exponents": law.exponents.tolist()}
        }


def fit_scaling(
    names: tuple[str, ...], points: Points, forecasts: Mapping[str, tuple[Sequence[float], float | None]]
) -> ScalingFit | None:
    """Fit the law to points and predict variants outside of them.

    Args:
        names: names of the sizes.
        points: the points of the fit.
        forecasts: variant -> its sizes, and its measured PSNR if it is known.

    Returns:
        The fit; None if there are fewer than two variants, or not more points than the law has parameters.

    Source: Hoffmann et al. 2022, "Training Compute-Optimal Large Language Models", approach 3, for the law and the
    robust fit of the logarithm of the error.
    """
    variants = points.names
    if len(variants) < 2 or len(points.psnr) <= 1 + 2 * len(names):
        return None
    law = fit_law(points)
    generator = np.random.default_rng(_SEED)
    samples = [
        fit_law(points.of([variants[place] for place in generator.integers(len(variants), size=len(variants))]), law)
        for _ in range(RESAMPLES)
    ]
    ends = np.quantile([sample.exponents for sample in samples], [(1 - SHARE) / 2, (1 + SHARE) / 2], axis=0)
    off = points.psnr - law.psnr(points.sizes)
    own = np.array(points.variants)
    return ScalingFit(
        names, law, [(float(low), float(high)) for low, high in ends.T],
        {name: float(off[own == name].mean()) for name in variants},
        {name: _left_out(points, name, law) for name in variants},
        len(off), float(np.sqrt((off**2).mean())),
        [_forecast(name, np.array([sizes]), measured, law, samples) for name, (sizes, measured) in forecasts.items()],
    )  # fmt: skip


def fit_law(points: Points, near: Law | None = None) -> Law:
    """The law with the smallest robust error.

    Args:
        points: the points.
        near: a law to start from; None tries several exponents.
    """
    middle = np.exp(np.log(points.sizes).mean(axis=0))
    sizes, target = np.log(points.sizes / middle), -points.psnr / DECIBELS
    count = sizes.shape[1]

    def residuals(values: Float[np.ndarray, " p"]) -> Float[np.ndarray, " n"]:
        terms = values[1 : 1 + count] - values[1 + count :] * sizes
        parts = np.concatenate([np.full((len(sizes), 1), values[0]), terms], 1)
        prior = (values[1 + count :] / _TYPICAL - 1) * _ROBUST
        return np.concatenate([np.logaddexp.reduce(parts, axis=1) - target, prior])

    share = target.min() - np.log(1 + count)
    starts = [np.array([share] * (1 + count) + [exponent] * count) for exponent in _EXPONENTS]
    if near is not None:
        terms = near.exponents * np.log(near.scales / middle)
        starts = [np.concatenate([[np.log(near.floor)], terms, near.exponents])]
    lower = np.concatenate([np.full(1 + count, target.min() - 15), np.zeros(count)])
    upper = np.concatenate([np.full(1 + count, target.max() + 5), np.full(count, 4.0)])
    found = min(
        (
            least_squares(residuals, np.clip(start, lower + 1e-6, upper - 1e-6), bounds=(lower, upper), loss="soft_l1",
                          f_scale=_ROBUST)
            for start in starts
        ),
        key=lambda solution: solution.cost,
    ).x  # fmt: skip
    exponents = found[1 + count :]
    return Law(float(np.exp(found[0])), middle * np.exp(found[1 : 1 + count] / np.maximum(exponents, 1e-9)), exponents)


def _left_out(points: Points, variant: str, law: Law) -> tuple[float, float]:
    """Measured and predicted PSNR of the last point of a variant, by a fit to the others."""
    others = fit_law(points.of([name for name in points.names if name != variant]), law)
    own = points.of([variant])
    return float(own.psnr[-1]), float(others.psnr(own.sizes[-1:])[0])


def _forecast(
    variant: str, sizes: Float[np.ndarray, "1 k"], measured: float | None, law: Law, samples: Sequence[Law]
) -> Forecast:
    low, high = np.quantile([sample.psnr(sizes)[0] for sample in samples], [(1 - SHARE) / 2, (1 + SHARE) / 2])
    return Forecast(variant, float(law.psnr(sizes)[0]), float(low), float(high), measured)
