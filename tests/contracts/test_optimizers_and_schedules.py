"""What every optimizer and every schedule of the learning rate promises."""

import copy
import math

import pytest
import torch
from small import names
from torch import nn

from openrayzer.interfaces import OPTIMIZERS, SCHEDULES, InputError, Optimizer, Schedule

EVERY_OPTIMIZER = pytest.mark.parametrize("name", names(OPTIMIZERS))
EVERY_SCHEDULE = pytest.mark.parametrize("name", names(SCHEDULES))


def trained(optimizer: Optimizer, steps: int = 10) -> tuple[nn.Module, list[float]]:
    """A small network after some steps, and its loss before each."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.Linear(8, 1))
    inputs, losses = torch.randn(16, 4), []
    built = optimizer.build(model)
    for _ in range(steps):
        loss = (model(inputs) - inputs[:, :1]).square().mean()
        built.zero_grad()
        loss.backward()
        built.step()
        losses.append(loss.item())
    return model, losses


@EVERY_OPTIMIZER
def test_its_steps_lower_a_loss_and_can_be_repeated(small, name):
    (one, losses), (other, again) = trained(small(OPTIMIZERS, name)), trained(small(OPTIMIZERS, name))
    assert losses[-1] < losses[0]
    assert losses == again
    assert all(map(torch.equal, one.parameters(), other.parameters()))


@EVERY_OPTIMIZER
def test_it_owns_every_trainable_weight_once_and_no_frozen_one(small, name):
    model = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 2))
    model[2].requires_grad_(False)
    groups = small(OPTIMIZERS, name).build(model).param_groups
    owned = [id(weight) for group in groups for weight in group["params"]]
    assert sorted(owned) == sorted(id(weight) for weight in model.parameters() if weight.requires_grad)
    assert all(group["lr"] > 0 for group in groups)


@EVERY_OPTIMIZER
def test_a_model_without_trainable_weights_is_refused(small, name):
    with pytest.raises(InputError, match="no trainable weights"):
        small(OPTIMIZERS, name).build(nn.Linear(2, 2).requires_grad_(False))


@EVERY_OPTIMIZER
def test_a_restored_state_goes_on_alike(small, name):
    model, _ = trained(small(OPTIMIZERS, name))
    other = copy.deepcopy(model)
    first, second = small(OPTIMIZERS, name).build(model), small(OPTIMIZERS, name).build(other)
    for optimizers in ((first,), (first, second)):  # the second optimizer begins with the second step
        if len(optimizers) == 2:
            other.load_state_dict(model.state_dict())
            second.load_state_dict(copy.deepcopy(first.state_dict()))  # else they share tensors
        for optimizer, trainee in zip(optimizers, (model, other), strict=False):
            optimizer.zero_grad()
            trainee(torch.ones(1, 4)).sum().backward()
            optimizer.step()
    assert all(map(torch.equal, model.parameters(), other.parameters()))


@EVERY_SCHEDULE
@pytest.mark.parametrize("steps", [1, 15, 100])
def test_factors_are_finite_from_0_to_1_and_the_first_step_moves(small, name, steps):
    schedule: Schedule = small(SCHEDULES, name)
    factors = [schedule.factor(step, steps) for step in range(steps)]
    assert all(math.isfinite(factor) and 0 <= factor <= 1 for factor in factors)
    assert factors[0] > 0


@EVERY_SCHEDULE
def test_the_peak_of_1_is_reached_in_a_long_run(small, name):
    assert max(small(SCHEDULES, name).factor(step, 200) for step in range(200)) == pytest.approx(1)


@EVERY_SCHEDULE
def test_a_factor_depends_on_step_and_length_alone(small, name):
    """A resumed run asks for the steps from the middle on."""
    schedule, other = small(SCHEDULES, name), small(SCHEDULES, name)
    forwards = [schedule.factor(step, 50) for step in range(50)]
    assert [other.factor(step, 50) for step in reversed(range(50))] == forwards[::-1]
    assert math.isfinite(schedule.factor(50, 50))  # the learning rate after the last step
