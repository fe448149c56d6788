"""Runs with an objective: its weights are trained, saved and resumed beside the model, and are no part of the model."""

import json
from pathlib import Path

import pytest
import torch

import openrayzer
from openrayzer.components.tokenizers.dinov2 import DinoV2
from openrayzer.composer import construct, load_experiment
from openrayzer.planning.cost_report import Setting, parameter_lines
from openrayzer.planning.flops import count_flops
from openrayzer.planning.memory import checkpoint_bytes
from openrayzer.training.faults.replay import replay

TINY = Path(__file__).parent / "tiny_rayzer.json"
TEACHER = {
    "type": "dinov2", "width": 16, "variant": "vit_base_patch14_dinov2", "pretrained": False, "backbone_width": 16,
    "depth": 2, "num_heads": 2,
}  # fmt: skip
LAYERS = [{"stream": "input", "layer": 1, "teacher_block": 2}, {"stream": "target", "layer": 2, "teacher_block": 1}]
REPA = {"type": "repa", "teacher": TEACHER, "alignments": LAYERS, "teacher_size": 42, "projector_width": 8}
LAYERED = (
    "model.num_latents=0", "model.encoder=per_view", 'model.renderer={"type": "layered", "depth": 2}',
    "train.sample_every=0", "train.evaluate_every=0", "data.test=[]",
)  # fmt: skip


def lines(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_projectors_train_resume_and_are_not_exported(train_file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    changes = [*LAYERED, f"train.objective={json.dumps(REPA)}"]
    assert train_file(TINY, tmp_path / "whole", *changes, "train.steps=4", "train.checkpoint_every=2") == 0
    assert train_file(TINY, tmp_path / "halves", *changes, "train.steps=4", resume=str(_second(tmp_path))) == 0
    whole, resumed = lines(tmp_path / "whole"), lines(tmp_path / "halves")
    assert [line["repa"] for line in whole[2:]] == [line["repa"] for line in resumed]
    assert [line["loss"] for line in whole[2:]] == [line["loss"] for line in resumed]
    saved = torch.load(_second(tmp_path) / "mp_rank_00_model_states.pt", weights_only=False)["module"]
    assert {name.split(".")[0] for name in saved} == {"model", "objective"}
    assert not any("teacher" in name or "backbone" in name for name in saved)
    model = openrayzer.load_model(tmp_path / "whole")
    assert len(model.state_dict()) == sum(name.startswith("model.") for name in saved)


def test_a_repeated_step_has_the_projectors_of_the_run(train_file, tmp_path, monkeypatch):
    monkeypatch.setattr(DinoV2, "block_features", _constant_features)  # a teacher without a file has random weights
    rule = 'train.bad_steps={"norm_factor": 1, "grace_steps": 1, "max_in_a_row": 1}'
    assert (
        train_file(TINY, tmp_path, *LAYERED, f"train.objective={json.dumps(REPA)}", rule, "train.clip_norm=1e-6") == 3
    )
    (dump,) = (tmp_path / "bad_steps").iterdir()
    plan = load_experiment(dump / "experiment.json").plan.arguments
    objective = construct(plan["train"].arguments["objective"])
    step = replay(
        dump, model=openrayzer.load_model(dump), losses=construct(plan["loss"]), objective=objective,
        device=torch.device("cpu"),
    )  # fmt: skip
    assert [one.loss for one in step.micro_batches] == pytest.approx(
        [one.recorded for one in step.micro_batches], rel=1e-5
    )
    assert step.norm == pytest.approx(step.recorded_norm, rel=1e-3)
    assert any(name.startswith("objective.projectors") for name in step.gradients)


def _constant_features(_: DinoV2, images: torch.Tensor, blocks: list[int]) -> list[torch.Tensor]:
    b, v, _, height, width = images.shape
    return [torch.full((b, v, height // 14 * (width // 14), 16), float(block)) for block in blocks]


def _second(folder: Path) -> Path:
    return folder / "whole/checkpoints/step_00000002"


def test_the_planned_cost_of_mask_swap_is_twice_that_of_a_step_without_it():
    swap = 'train.objective={"type": "mask_swap"}'
    with torch.device("meta"):
        plain, swapped = (count_flops(load_experiment(TINY, overrides=more).build()).clip for more in ([], [swap]))
    assert 1.9 * plain < swapped < 2.4 * plain


def test_the_plan_counts_the_projectors():
    with torch.device("meta"):
        plain, aligned = (
            load_experiment(TINY, overrides=[*LAYERED, *more]).build()
            for more in ([], [f"train.objective={json.dumps(REPA)}"])
        )
    count = sum(weight.numel() for weight in aligned.train.objective.parameters())
    assert parameter_lines(aligned.model, aligned.train.objective)[-1].split()[:2] == ["objective", f"{count:,}"]
    sizes = [checkpoint_bytes(Setting(each, {}, 1, 1).trained, {}) for each in (plain, aligned)]
    assert sizes[1] - sizes[0] == 16 * count
