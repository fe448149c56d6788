"""What every metric of rendered views promises."""

import inspect

import pytest
import torch
from small import names
from torch import Tensor

from openrayzer.interfaces import METRICS, Metric

pytestmark = pytest.mark.parametrize("name", names(METRICS))


@pytest.fixture
def metric(small, name: str) -> Metric:
    return small(METRICS, name)


def images(seed: int) -> Tensor:
    return torch.rand(2, 3, 3, 32, 40, generator=torch.Generator().manual_seed(seed))


def noisy(target: Tensor, strength: float) -> Tensor:
    return (target + strength * (images(1) - 0.5)).clamp(0, 1)


def test_one_finite_float32_number_per_view(metric):
    values = metric.compute(images(0), images(1))
    assert (values.shape, values.dtype) == ((2, 3), torch.float32)
    assert torch.isfinite(values).all()
    assert torch.isfinite(metric.compute(images(0), images(0))).all()
    assert not values.requires_grad


def test_noise_makes_it_worse_in_the_direction_that_it_states(metric):
    target = images(0)
    sign = {"higher": 1, "lower": -1}[metric.better]
    copy, good, bad = (sign * metric.compute(noisy(target, strength), target) for strength in (0, 0.1, 0.8))
    assert (copy > good).all()
    assert (good > bad).all()


def test_each_view_is_measured_alone(metric):
    together = metric.compute(images(0), images(1))
    alone = metric.compute(images(0)[1:, 2:], images(1)[1:, 2:])
    torch.testing.assert_close(alone, together[1:, 2:], atol=1e-5, rtol=1e-4)


def test_autocast_does_not_change_it(metric):
    plain = metric.compute(images(0), images(1))
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(metric.compute(images(0), images(1)), plain, rtol=1e-6, atol=0)


def test_it_describes_itself(metric):
    assert metric.digits >= 0
    assert metric.to("cpu") is metric
    assert ("weights" in inspect.signature(type(metric).__init__).parameters) == bool(metric.weights_url)
