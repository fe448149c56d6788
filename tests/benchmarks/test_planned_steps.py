"""The plan of a step on several ranks, held against measured steps."""

from pathlib import Path

import pytest

from openrayzer.benchmarks.planned_steps import PlannedStep, link_rate, planned_seconds, planned_steps, planned_table
from openrayzer.cli import COMMANDS
from openrayzer.interfaces import InputError
from openrayzer.planning.communication import Communication

ROOT = Path(__file__).parents[2]
WIDE = (
    "shared.width=384", "shared.num_heads=6", "model.estimator_depth=4", "model.encoder_depth=4",
    "model.renderer.depth=4", "data.image_size=[32, 32]", f"deepspeed={ROOT / 'ds_configs/zero2_fp32.json'}",
)  # fmt: skip
"""Many weights and few pixels, so that communication takes a share of the step."""


def test_clips_take_the_same_time_the_optimizer_is_divided_and_communication_is_added():
    planned, waited = planned_seconds(3.0, 5.0, optimizer=0.25, sent=Communication(gradients=0.2, weights=0.1))
    assert waited == pytest.approx(0.3)
    assert planned == pytest.approx(2.0 + 1.0 / 4 + 0.3)


def test_the_table_shows_the_error_of_the_plan():
    lines = planned_table([PlannedStep(2, measured=0.5, planned=0.45, waited=0.09, link=3.5e9)])
    assert lines[1].split() == ["2", "500", "450", "20%", "-10.0%", "3.50"]


@pytest.mark.parametrize("words", [["--planned", "1"], ["--planned", "2", "--ranks", "2"]])
def test_one_rank_is_the_calibration_and_nothing_to_plan(words: list[str]):
    with pytest.raises(InputError, match="numbers of ranks from 2 on"):
        COMMANDS["benchmark-training"].main(["rayzer_demo", *words])


@pytest.mark.slow
def test_a_plan_from_one_rank_is_within_15_percent_of_measured_steps():
    found = planned_steps(
        ROOT / "experiments/rayzer_latent_demo.json", [2, 4], clips=4, overrides=WIDE, rounds=3, steps=2, warm_up=3
    )
    assert all(abs(one.error) < 0.15 for one in found), planned_table(found)
    assert link_rate(2, 1_000_000) > 0
