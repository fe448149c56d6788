"""Statistics of studies against cases with a known answer."""

import numpy as np
import pytest

from openrayzer.evaluation.studies import study_statistics
from openrayzer.evaluation.studies.study_statistics import difference_of, holm, mean_of


def values(table: np.ndarray) -> dict[int, dict[str, float]]:
    return {seed: {f"scene_{place}": float(value) for place, value in enumerate(row)} for seed, row in enumerate(table)}


def test_a_constant_difference_is_certain_however_hard_the_scenes_are():
    first = np.random.default_rng(0).normal(20, 5, (3, 8))
    found = difference_of(values(first), values(first + 0.5))
    assert found.estimate.mean == pytest.approx(0.5)
    assert found.estimate.low == pytest.approx(0.5)
    assert found.p_value < 0.001


def test_a_difference_that_changes_with_the_seed_is_not_certain_however_many_scenes_there_are():
    first = np.random.default_rng(0).normal(20, 5, (3, 100))
    found = difference_of(values(first), values(first + np.array([[2.0], [1.0], [-0.5]])))
    assert found.estimate.low < 0 < found.estimate.high
    assert found.p_value > 0.1


def test_the_interval_of_the_mean_has_the_width_of_the_normal_theory(monkeypatch):
    """Independent values: the variance of the mean of the samples is that of rows plus that of columns."""
    monkeypatch.setattr(study_statistics, "RESAMPLES", 20_000)
    generator = np.random.default_rng(1)
    rows, columns = generator.normal(0, 1, 10), generator.normal(0, 2, 40)
    found = mean_of(values(rows[:, None] + columns[None]))
    expected = 2 * 1.96 * np.sqrt(rows.var(ddof=1) / 10 + columns.var(ddof=1) / 40)
    assert found.high - found.low == pytest.approx(expected, rel=0.08)


def test_only_scenes_that_all_runs_have_count():
    first = {0: {"a": 1.0, "b": 2.0, "c": float("nan")}, 1: {"a": 1.0, "b": 2.0, "c": 3.0}}
    second = {0: {"b": 3.0, "c": 1.0}, 1: {"a": 9.0, "b": 4.0, "c": 1.0}, 2: {"b": 100.0}}
    found = difference_of(first, second)
    assert (found.estimate.seeds, found.estimate.scenes) == (2, 1)
    assert found.estimate.mean == pytest.approx(1.5)
    assert difference_of(first, {5: {"a": 1.0}}) is None


def test_one_value_has_no_interval():
    found = difference_of({0: {"a": 1.0}}, {0: {"a": 3.0}})
    assert (found.estimate.mean, found.estimate.low, found.p_value) == (2.0, None, None)


def test_holms_correction_follows_its_definition():
    assert holm([0.01, 0.04, None, 0.03]) == pytest.approx([0.03, 0.06, None, 0.06])
    assert holm([0.5, 0.6]) == [1.0, 1.0]
    assert holm([]) == []
