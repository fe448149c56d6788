"""Depth metrics: values worked out by hand, any scale, unknown pixels, broken depth."""

import math

import pytest
import torch

from openrayzer.evaluation.metrics.depth_metrics import depth_metrics

TRUE = torch.tensor([[[1.0, 2.0, 4.0], [2.0, 2.0, 5.0]]])


def test_perfect_depth_in_any_unit_has_no_error():
    for scale in (0.01, 1.0, 30.0):
        assert depth_metrics(scale * TRUE, TRUE) == pytest.approx(
            {"depth_abs_rel": 0.0, "depth_delta_1.25": 1.0}, abs=1e-6
        )


def test_values_are_those_worked_out_by_hand():
    depth = TRUE.clone()
    depth[0, 0, 0], depth[0, 1, 2] = 1.2, 3.0  # the median ratio stays 1; errors of 0.2 and 0.4
    expected = {"depth_abs_rel": 0.6 / 6, "depth_delta_1.25": 5 / 6}
    assert depth_metrics(depth, TRUE) == pytest.approx(expected)


def test_each_view_has_its_own_scale_and_views_without_depth_do_not_count():
    true = torch.cat([TRUE, TRUE, torch.zeros_like(TRUE)])
    depth = torch.cat([2 * TRUE, 7 * TRUE, TRUE])
    assert depth_metrics(depth, true) == pytest.approx({"depth_abs_rel": 0.0, "depth_delta_1.25": 1.0}, abs=1e-6)


def test_unknown_pixels_do_not_count():
    true, depth = TRUE.clone(), TRUE.clone()
    true[0, 0, 0], depth[0, 0, 0] = 0, 100.0
    assert depth_metrics(depth, true) == pytest.approx({"depth_abs_rel": 0.0, "depth_delta_1.25": 1.0}, abs=1e-6)
    assert all(math.isnan(value) for value in depth_metrics(depth, torch.zeros_like(true)).values())


@pytest.mark.parametrize("broken", [0.0, -1.0, math.nan, math.inf])
def test_broken_depth_is_wrong_and_has_no_relative_error(broken: float):
    depth = TRUE.clone()
    depth[0, 0, 0] = broken
    metrics = depth_metrics(depth, TRUE)
    assert math.isnan(metrics["depth_abs_rel"])
    assert metrics["depth_delta_1.25"] == pytest.approx(5 / 6)
    assert depth_metrics(torch.full_like(TRUE, broken), TRUE)["depth_delta_1.25"] == 0
