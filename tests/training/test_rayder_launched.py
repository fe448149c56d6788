"""RayDer under ZeRO-2 on two ranks: every weight is used three times a step, with and without recomputed blocks.

DeepSpeed's issues 627, 988 and 2103: "parameter has already been reduced", where a weight is used twice and reentrant
checkpointing fires its hook for every use.
"""

import json
from pathlib import Path

import pytest
from launching import ROOT, launch

EXPERIMENT = Path(__file__).with_name("tiny_rayder.json")


def train_lines(folder: Path, name: str, ranks: int, *settings: str, config: str) -> list[dict]:
    """The records of a run."""
    launch(folder, EXPERIMENT, name, f"deepspeed={ROOT / 'ds_configs' / config}", *settings, ranks=ranks)
    lines = [json.loads(line) for line in (folder / name / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if line["split"] == "train"]


@pytest.mark.slow
def test_two_ranks_have_the_losses_of_one_with_and_without_recomputed_blocks(tmp_path: Path):
    runs = {
        (ranks, every): train_lines(
            tmp_path, f"{ranks}_{every}", ranks, f"model.activation_checkpointing={every}", config="zero2_fp32.json"
        )
        for ranks, every in ((1, 0), (2, 0), (2, 1))
    }
    losses = {key: [line["loss"] for line in lines] for key, lines in runs.items()}
    norms = {key: [line["grad_norm"] for line in lines] for key, lines in runs.items()}
    assert len(losses[1, 0]) == 6
    assert losses[1, 0][-1] < losses[1, 0][0]
    for key in ((2, 0), (2, 1)):
        assert losses[key] == pytest.approx(losses[1, 0], rel=1e-4)
        assert norms[key] == pytest.approx(norms[1, 0], rel=1e-3)
        assert not any(line["skipped"] for line in runs[key])


@pytest.mark.slow
@pytest.mark.parametrize("config", ["zero2.json", "zero2_bf16.json"])
def test_two_ranks_train_in_bfloat16_with_dropped_states(tmp_path: Path, config: str):
    settings = ("model.activation_checkpointing=1", "model.state_dropout=0.5", "model.gains=projection")
    lines = train_lines(tmp_path, "half", 2, *settings, config=config)
    assert len(lines) == 6
    assert lines[-1]["loss"] < lines[0]["loss"]
    assert not any(line["skipped"] for line in lines)
