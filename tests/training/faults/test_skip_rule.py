"""The functions of DeepSpeed that the skip rule replaces, and its transfers from the device."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from deepspeed.runtime import utils
from deepspeed.runtime.zero import stage3, stage_1_and_2

from openrayzer.settings import BadSteps
from openrayzer.training.faults import skip_rule
from openrayzer.training.faults.bad_steps import LossWatch
from openrayzer.training.faults.skip_rule import MARKING, mark_not_finite
from openrayzer.training.logs.meter import read

pytestmark = [pytest.mark.filterwarnings("ignore::FutureWarning"), pytest.mark.filterwarnings("ignore::UserWarning")]

Train = Callable[..., int]


@pytest.mark.parametrize("value", [0.0, 3.5, 1e38, float("inf"), float("-inf"), float("nan")])
def test_norms_that_are_not_finite_are_marked_as_by_deepspeed(value):
    ours, theirs = torch.tensor(value), torch.tensor(value)
    mark_not_finite(ours)
    getattr(utils, MARKING)(theirs)
    assert torch.equal(ours, theirs)


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (stage_1_and_2, MARKING),
        (stage3, MARKING),
        (stage_1_and_2.DeepSpeedZeroOptimizer, "scaled_global_norm"),
        (stage_1_and_2.DeepSpeedZeroOptimizer, "check_overflow"),
        (stage3.DeepSpeedZeroOptimizer_Stage3, "_get_norm_groups"),
    ],
)
def test_deepspeed_still_has_the_functions_that_are_replaced(owner, name):
    assert callable(getattr(owner, name))


@pytest.mark.parametrize("config", ["zero2", "zero2_bf16", "zero3"])
@pytest.mark.parametrize("loss_factor", [0.0, 3.0])
def test_a_step_reads_the_device_once(train: Train, tmp_path: Path, monkeypatch, config, loss_factor):
    readings: list[int] = []
    monkeypatch.setattr(skip_rule, "read", lambda values: (readings.append(len(values)), read(values))[1])
    rule = BadSteps(norm_factor=50.0, loss_factor=loss_factor, grace_steps=0)
    assert train(tmp_path, steps=3, bad_steps=rule, deepspeed=f"ds_configs/{config}.json") == 0
    assert len(readings) == 3


def test_an_objection_is_a_jump_with_its_reason():
    watch = LossWatch(factor=2.0, grace_steps=1)
    assert [watch.objection(loss) for loss in (1.0, 1.0, 1.5)] == ["", "", ""]
    assert watch.objection(3.0) == "loss 3 above 2 x the median of the steps before"


def test_numbers_of_any_kind_are_read_in_their_order():
    values = [torch.tensor(1, dtype=torch.int64), torch.tensor(0.5), torch.tensor(0.25, dtype=torch.bfloat16)]
    assert [float(value) for value in read(values)] == [1.0, 0.5, 0.25]
    assert read([]) == []
