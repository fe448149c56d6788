"""What every loss promises."""

import pytest
import torch
from small import names
from torch import Tensor

from openrayzer.interfaces import LOSSES, Loss

pytestmark = pytest.mark.parametrize("name", names(LOSSES))


@pytest.fixture
def loss(small, name: str) -> Loss:
    return small(LOSSES, name)


def images(seed: int) -> Tensor:
    return torch.rand(2, 2, 3, 32, 48, generator=torch.Generator().manual_seed(seed))


def test_equal_images_cost_nothing_and_noise_costs_more_the_stronger_it_is(loss):
    target, noise = images(0), images(1) - 0.5
    costs = [loss(target + scale * noise, target).item() for scale in (0, 0.05, 0.5)]
    assert costs[0] == pytest.approx(0, abs=1e-6)
    assert costs[0] < costs[1] < costs[2]


def test_autocast_and_half_precision_do_not_change_the_result(loss):
    prediction, target = images(2).bfloat16(), images(3)
    plain = loss(prediction.float(), target)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        automatic = loss(prediction, target)
    assert automatic.dtype == torch.float32
    torch.testing.assert_close(automatic, plain, rtol=1e-6, atol=0)


def test_the_gradient_reaches_every_predicted_image(loss):
    prediction = images(4).requires_grad_()
    loss(prediction, images(5)).backward()
    assert prediction.grad.isfinite().all()
    assert prediction.grad.abs().flatten(2).sum(-1).gt(0).all()


def test_networks_in_a_loss_are_frozen_and_in_evaluation_mode(loss):
    assert not any(parameter.requires_grad for parameter in loss.parameters())
    assert loss.train() is loss
    assert not any(module.training for child in loss.children() for module in child.modules())


def test_building_a_loss_draws_no_random_numbers(small, name):
    small(LOSSES, name)  # writes the files
    before = small(LOSSES, name), torch.random.get_rng_state()
    after = small(LOSSES, name), torch.random.get_rng_state()
    assert torch.equal(before[1], after[1])
    torch.manual_seed(0)
    assert torch.equal(torch.random.get_rng_state(), after[1])  # small_component sets this seed before it builds


def test_a_loss_can_be_planned_without_memory(small, name):
    with torch.device("meta"):
        small(LOSSES, name)
