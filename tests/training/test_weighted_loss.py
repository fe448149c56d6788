"""The training loss."""

import pytest
import torch
import toy

from openrayzer.components.losses.mse import MeanSquaredError
from openrayzer.interfaces import InputError
from openrayzer.settings import LossTerm
from openrayzer.training.weighted_loss import WeightedLoss

PREDICTION, TARGET = torch.rand(2, 1, 3, 4, 4), torch.rand(2, 1, 3, 4, 4)


def test_the_loss_is_the_weighted_sum_of_its_terms_and_same_kinds_get_their_own_names():
    losses = WeightedLoss(
        [LossTerm(loss=MeanSquaredError(), weight=0.5), LossTerm(loss=MeanSquaredError(), weight=2.0)]
    )
    terms = losses(PREDICTION, TARGET, step=0)
    mse = (PREDICTION - TARGET).square().mean()
    assert set(terms) == {"loss", "mse", "mse_2"}
    torch.testing.assert_close(terms["loss"], 2.5 * mse)
    torch.testing.assert_close(terms["mse"], mse)


def test_a_term_waits_for_its_step_and_ramps_up():
    losses = WeightedLoss([LossTerm(loss=MeanSquaredError(), weight=1.0, start_step=2, ramp_steps=2)])
    prediction = PREDICTION.clone().requires_grad_()
    first = losses(prediction, TARGET, step=1)
    assert set(first) == {"loss"}
    first["loss"].backward()  # there is a graph, or DeepSpeed would wait for gradients
    ramp = [float(losses(PREDICTION, TARGET, step=step)["loss"]) for step in (2, 3, 4)]
    torch.testing.assert_close(torch.tensor(ramp[1:]), torch.tensor([2 * ramp[0]] * 2))


def test_losses_are_in_float32_inside_autocast_and_from_bfloat16():
    with torch.autocast("cpu", dtype=torch.bfloat16):
        terms = WeightedLoss([LossTerm(loss=toy.ToyLoss())])(PREDICTION.bfloat16(), TARGET, step=0)
    assert {value.dtype for value in terms.values()} == {torch.float32}


def test_extra_losses_are_added_with_weight_one_and_logged_by_their_names():
    term = LossTerm(loss=MeanSquaredError(), weight=2.0)
    plain = WeightedLoss([term])(PREDICTION, TARGET, step=0)
    size = torch.tensor(0.25, requires_grad=True)
    terms = WeightedLoss([term])(PREDICTION, TARGET, step=0, extra={"size": size})
    assert float(terms["loss"].detach()) == pytest.approx(float(plain["loss"]) + 0.25)
    assert float(terms["size"]) == 0.25
    assert not terms["size"].requires_grad
    terms["loss"].backward()
    assert float(size.grad) == 1.0


@pytest.mark.parametrize("name", ["loss", "psnr", "mse", "step", "grad_norm"])
def test_an_extra_loss_with_a_name_that_is_taken_is_refused(name: str):
    with pytest.raises(InputError, match=f"extra loss '{name}'"):
        WeightedLoss([LossTerm(loss=MeanSquaredError())])(PREDICTION, TARGET, step=0, extra={name: torch.zeros(())})


def test_extra_losses_keep_their_names_and_the_order_of_the_names_is_fixed():
    losses = WeightedLoss([LossTerm(loss=MeanSquaredError())])
    one, other = torch.tensor(1.0), torch.tensor(2.0)
    first = losses(PREDICTION, TARGET, step=0, extra={"b": other, "a": one})
    assert list(first) == ["loss", "mse", "a", "b"]
    with pytest.raises(InputError, match=r"were \['a', 'b'\] and are now \['a'\]"):
        losses(PREDICTION, TARGET, step=1, extra={"a": one})
