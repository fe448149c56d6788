"""Learning rates over the run, and the decay of weights."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from openrayzer.interfaces import InputError, Schedule
from openrayzer.training.optimizers import AdamW
from openrayzer.training.schedules import Constant, WarmupCosine, WarmupStableDecay

SCHEDULES = [
    Constant(warmup_steps=10),
    WarmupCosine(warmup_steps=10, final_fraction=0.1),
    WarmupStableDecay(warmup_steps=10, decay_steps=30, final_fraction=0.1),
    WarmupStableDecay(warmup_steps=10, decay_steps=30, square_root=True),
]


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_rises_in_equal_steps_from_the_first_one_and_never_leaves_0_to_1(schedule: Schedule):
    factors = [schedule.factor(step, 100) for step in range(100)]
    assert factors[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert all(0 < factor <= 1 for factor in factors)
    assert factors[10:] == sorted(factors[10:], reverse=True)


@given(warmup=st.integers(0, 50), steps=st.integers(1, 50))
def test_no_first_step_is_wasted_and_a_run_shorter_than_its_warm_up_works(warmup: int, steps: int):
    for schedule in (WarmupCosine(warmup_steps=warmup), WarmupStableDecay(warmup_steps=warmup, decay_steps=20)):
        assert 0 < schedule.factor(0, steps) <= 1


def test_cosine_passes_its_middle_and_ends_at_its_fraction():
    schedule = WarmupCosine(warmup_steps=20, final_fraction=0.2)
    assert schedule.factor(60, 100) == pytest.approx(0.6)
    assert schedule.factor(100, 100) == pytest.approx(0.2)


def test_the_plateau_of_wsd_does_not_depend_on_the_length_of_the_run():
    schedule = WarmupStableDecay(warmup_steps=5, decay_steps=10)
    assert [schedule.factor(step, 50) for step in range(40)] == [schedule.factor(step, 90) for step in range(40)]


def test_only_weights_of_two_dimensions_decay_and_frozen_ones_are_left_out():
    model = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 2))
    model[2].requires_grad_(False)
    groups = AdamW(learning_rate=1e-3, weight_decay=0.1).build(model).param_groups
    assert [(group["weight_decay"], len(group["params"])) for group in groups] == [(0.1, 1), (0.0, 3)]


def test_a_model_without_trainable_weights_is_refused():
    with pytest.raises(InputError, match="Linear has no trainable weights"):
        AdamW(learning_rate=1e-3).build(nn.Linear(2, 2).requires_grad_(False))


def test_adamw_agrees_with_its_formula():
    weight = nn.Parameter(torch.tensor([[2.0]]))
    model = nn.Module()
    model.register_parameter("weight", weight)
    optimizer = AdamW(learning_rate=0.1, weight_decay=0.5, eps=1e-12).build(model)
    weight.grad = torch.tensor([[3.0]])
    optimizer.step()
    assert weight.item() == pytest.approx(2.0 * (1 - 0.1 * 0.5) - 0.1)  # the first step is of unit length


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: AdamW(learning_rate=0.0), "learning_rate and eps must be above 0"),
        (lambda: AdamW(learning_rate=1.0, betas=(0.9, 1.0)), "betas must be at least 0 and below 1"),
        (lambda: WarmupCosine(warmup_steps=-1), "warmup_steps must be 0 or more, got -1"),
        (lambda: WarmupCosine(warmup_steps=1, final_fraction=2.0), "final_fraction must be between 0 and 1"),
    ],
)
def test_values_out_of_range_are_refused(make, message: str):
    with pytest.raises(InputError, match=message):
        make()
