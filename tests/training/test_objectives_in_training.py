"""Runs with an objective: its weights are trained, saved and resumed beside the model, and are no part of the model."""

import json
from pathlib import Path

import torch

import openrayzer
from openrayzer.composer import load_experiment
from openrayzer.planning.flops import count_flops

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


def _second(folder: Path) -> Path:
    return folder / "whole/checkpoints/step_00000002"


def test_the_planned_cost_of_mask_swap_is_twice_that_of_a_step_without_it():
    swap = 'train.objective={"type": "mask_swap"}'
    with torch.device("meta"):
        plain, swapped = (count_flops(load_experiment(TINY, overrides=more).build()).clip for more in ([], [swap]))
    assert 1.9 * plain < swapped < 2.4 * plain
