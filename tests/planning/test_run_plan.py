"""The plan of a run on GPUs that are not here."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from openrayzer.composer import load_experiment
from openrayzer.interfaces import InputError
from openrayzer.planning import run_plan
from openrayzer.planning.communication import LINK_SHARE, Machines, communication
from openrayzer.planning.cost_report import Setting
from openrayzer.planning.gpu_rates import GPUS
from openrayzer.planning.memory import sent_bytes
from openrayzer.planning.run_plan import RESERVED, plan_run
from openrayzer.planning.run_plan_report import run_plan_lines

ROOT = Path(__file__).parents[2]
TINY = ROOT / "tests/training/tiny_rayzer.json"
ZERO2 = json.loads((ROOT / "ds_configs/zero2.json").read_text())
MODEL = nn.Sequential(nn.Linear(9, 1000), nn.LayerNorm(1000))
H100 = GPUS["h100"]


def setting(*changes: str) -> Setting:
    with torch.device("meta"):
        experiment = load_experiment(TINY, overrides=["train.batch_size=8", *changes]).build()
    return Setting(experiment, ZERO2, ranks=1, micro_batch=1)


@pytest.fixture(scope="module")
def of_two():
    return plan_run(setting(), Machines(H100, 2))


def test_gradients_of_linear_layers_travel_in_bfloat16():
    assert sent_bytes(MODEL, ZERO2) == 2 * 10_000 + 4 * 2_000
    assert sent_bytes(MODEL, {}) == 4 * 12_000


@pytest.mark.parametrize(("stage", "gradients", "weights"), [(1, 2, 1), (2, 8, 1), (3, 4, 8)])
def test_stages_differ_in_how_often_they_communicate(stage: int, gradients: int, weights: int):
    found = communication(MODEL, ZERO2, Machines(H100, 4), stage=stage, micro_batches=4)
    share = 3 / 4 / (LINK_SHARE * H100.link)
    assert found.gradients == pytest.approx(gradients * share * 28_000)
    assert found.weights == pytest.approx(weights * share * 48_000)


def test_the_slowest_link_decides():
    within, between = Machines(H100, 8), Machines(H100, 16, network=50e9)
    assert (within.nodes, between.nodes) == (1, 2)
    assert within.rate == LINK_SHARE * H100.link
    assert between.rate == LINK_SHARE * 50e9


def test_gradients_hide_behind_the_backward_passes_only_if_they_may():
    sent = communication(MODEL, ZERO2, Machines(H100, 4), stage=2, micro_batches=2)
    assert sent.waited(1.0, micro_batches=2, overlap=True) == sent.weights
    assert sent.waited(1.0, micro_batches=2, overlap=False) == sent.weights + sent.gradients


def test_every_choice_keeps_the_batch_and_the_fastest_comes_first(of_two):
    assert {one.micro_batch for one in of_two.fitting} == {1, 2, 4}
    assert all(2 * one.micro_batch * one.accumulation == 8 for one in of_two.fitting)
    assert len(of_two.fitting) == 3 * 3 * 2
    times = [one.seconds for one in of_two.fitting]
    assert times == sorted(times)


def test_recomputation_takes_time_and_saves_memory(of_two):
    kept, recomputed = (
        next(one for one in of_two.fitting if (one.stage, one.micro_batch, one.recomputed) == (2, 4, again))
        for again in (False, True)
    )
    assert recomputed.memory < kept.memory
    assert recomputed.compute > kept.compute


def test_memory_of_more_clips_is_that_of_their_trace(of_two):
    from openrayzer.planning.clip_shapes import clip_shapes
    from openrayzer.planning.memory import memory
    from openrayzer.planning.trace import trace_micro_batch

    own = setting()
    shape = clip_shapes(own.experiment.data.view_sampler, steps=own.experiment.train.steps)[-1]
    losses = [term.loss for term in own.experiment.loss]
    size = own.experiment.data.image_size
    traced = trace_micro_batch(own.experiment.model, shape, size, batch=4, bf16=True, losses=losses)
    fixed = memory(own.experiment.model, ZERO2, ranks=2, stage=2).total
    planned = next(one for one in of_two.fitting if (one.stage, one.micro_batch, one.recomputed) == (2, 4, False))
    assert planned.memory == pytest.approx(fixed + traced.peak, rel=0.03)


def test_choices_above_the_memory_of_a_gpu_are_listed_apart(of_two):
    small = GPUS["h100"].__class__("small", 1e12, 1e14, 1e14, 1e13, of_two.fitting[0].memory / (1 - RESERVED), 1e11)
    plan = plan_run(setting(), Machines(small, 2))
    assert plan.fitting
    assert plan.too_large
    assert max(one.memory for one in plan.fitting) <= (1 - RESERVED) * small.memory < plan.too_large[0].memory
    lines = "\n".join(run_plan_lines(plan, Machines(small, 2)))
    assert "too large for the" in lines
    assert "GPU hours" in lines


def test_a_batch_that_cannot_be_divided_names_batches_that_can():
    plan = plan_run(setting(), Machines(H100, 3))
    assert not plan.fitting
    assert "take --gpus 2, or train.batch_size 6 or 9" in plan.notes[0]


@pytest.fixture
def divided(monkeypatch: pytest.MonkeyPatch) -> None:
    """Traces that are known: a clip takes 100 GB and a second, divided among the GPUs that share it."""

    def traced(setting: Setting, shape: object, machines: Machines, shared: int) -> run_plan._Traced:
        peak, seconds = run_plan._Line(0.0, 100e9 / shared), run_plan._Line(0.0, 1 / shared)
        return run_plan._Traced(peak, seconds, run_plan._Line(0.0, 0.125 * (shared > 1)))

    monkeypatch.setattr(run_plan, "_traced", traced)


@pytest.mark.usefixtures("divided")
def test_gpus_share_clips_if_one_gpu_cannot_hold_a_clip(of_two):
    plan = plan_run(setting(), Machines(H100, 4))
    assert {one.shared for one in of_two.fitting} == {1}
    assert {one.shared for one in plan.too_large if one.micro_batch == 1} == {1}
    assert {(one.shared, one.micro_batch, one.accumulation) for one in plan.fitting} == {(2, 1, 4)}
    assert plan.fitting[0].compute == pytest.approx(4 * 0.5, rel=1e-3)
    assert plan.fitting[0].waited == pytest.approx(4 * 0.125, rel=1e-3)
    assert run_plan_lines(plan, Machines(H100, 4))[3].split()[:4] == ["2", "4", "1", "1"]


@pytest.mark.usefixtures("divided")
def test_gpus_share_clips_if_the_batch_has_fewer_clips_than_gpus():
    plan = plan_run(setting("train.batch_size=2"), Machines(H100, 4))
    assert {one.shared for one in plan.fitting} == {2}
    assert "train.batch_size 2 cannot be divided among 4 GPUs" in plan.notes[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("shared.num_heads=1", "2 does not divide the 1 attention heads"),
        ("data.view_sampler.num_context=3", "2 does not divide the 5 views of a clip; 1 or 5 would work"),
    ],
)
def test_a_number_of_gpus_that_cannot_share_clips_is_a_note(change: str, message: str):
    plan = plan_run(setting("train.batch_size=1", change), Machines(H100, 2))
    assert not plan.fitting
    assert message in plan.notes[-1]


def test_exchanges_between_nodes_take_the_network():
    machines = Machines(H100, 16, per_node=8, network=25e9)
    assert machines.rate_among(8) == LINK_SHARE * H100.link
    assert machines.rate_among(16) == machines.rate == LINK_SHARE * 25e9


def test_wrong_numbers_of_gpus_are_refused():
    with pytest.raises(InputError, match="1 or more"):
        Machines(H100, 0)
