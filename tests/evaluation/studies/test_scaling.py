"""Fits of the error to sizes: known laws are found again, and forecasts hold for them."""

import itertools

import numpy as np
import pytest

from openrayzer.evaluation.studies import scaling
from openrayzer.evaluation.studies.scaling import Law, Points, fit_law, fit_scaling

TRUE = Law(0.004, np.array([0.5, 0.3]), np.array([0.9, 0.5]))


def points(noise: float = 0.0) -> Points:
    """Five widths, each at four steps."""
    sizes = np.array(list(itertools.product((16.0, 32.0, 64.0, 128.0, 256.0), (50.0, 100.0, 200.0, 400.0))))
    names = [f"width {width:.0f}" for width, _ in sizes]
    return Points(names, sizes, TRUE.psnr(sizes) + noise * np.random.default_rng(0).normal(size=len(sizes)))


def test_an_exact_law_is_found_again():
    found = fit_law(points())
    np.testing.assert_allclose(found.exponents, TRUE.exponents, atol=0.02)
    np.testing.assert_allclose(found.floor, TRUE.floor, rtol=0.05)


def test_a_forecast_lies_near_the_truth_and_its_interval_contains_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(scaling, "RESAMPLES", 40)
    far = [1024.0, 1600.0]
    truth = float(TRUE.psnr(np.array([far]))[0])
    fit = fit_scaling(("width", "steps"), points(noise=0.05), {"far": (far, None)})
    (forecast,) = fit.forecasts
    assert forecast.predicted == pytest.approx(truth, abs=0.3)
    assert forecast.low <= truth <= forecast.high
    assert 0.02 < fit.deviation < 0.08


def test_a_variant_that_does_not_follow_the_law_stands_out(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(scaling, "RESAMPLES", 3)
    given = points()
    worse = given.psnr - np.array([1.0 if name == "width 64" else 0.0 for name in given.variants])
    fit = fit_scaling(("width", "steps"), Points(given.variants, given.sizes, worse), {})
    off = {name: measured - predicted for name, (measured, predicted) in fit.left_out.items()}
    assert off["width 64"] == pytest.approx(-1.0, abs=0.1)
    assert min(fit.residuals, key=fit.residuals.get) == "width 64"


def test_too_few_points_give_no_fit():
    few = points().of(["width 16"])
    assert fit_scaling(("width", "steps"), few, {}) is None
