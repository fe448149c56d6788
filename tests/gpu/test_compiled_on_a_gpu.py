"""``train.compile`` on a GPU: compiled and uncompiled steps have the same losses."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from gpu_suite import TINY, TINY_RAYDER

from openrayzer.training.compiling import compiling

pytestmark = [pytest.mark.gpu, pytest.mark.usefixtures("rooms", "gpu")]
CHANGES = ("train.steps=3", "train.log_every=1", "train.sample_every=0", "train.evaluate_every=0",
           "train.checkpoint_every=0", "data.workers=0")  # fmt: skip
ATTENTION = {TINY: "shared.attention", TINY_RAYDER: "model.attention"}


@pytest.mark.parametrize("file", list(ATTENTION), ids=lambda file: file.stem)
def test_compiled_and_uncompiled_steps_have_the_same_losses(
    train_file: Callable[..., int], tmp_path: Path, file: Path, figure: Callable[[str], None]
):
    found = {}
    for compiled in ("false", "true"):
        changes = (f'{ATTENTION[file]}={{"type": "auto"}}', f"train.compile={compiled}")
        assert train_file(file, tmp_path / compiled, *CHANGES, *changes) == 0
        records = [json.loads(line) for line in (tmp_path / compiled / "metrics.jsonl").read_text().splitlines()]
        found[compiled] = [(record["loss"], record["grad_norm"]) for record in records if record["split"] == "train"]
    pairs = list(zip(found["true"], found["false"], strict=True))
    apart = [max(abs(one / other - 1) for one, other in zip(*pair, strict=True)) for pair in pairs]
    figure("relative difference of loss and norm " + ", ".join(f"{each:.1e}" for each in apart))
    assert len(pairs) == 3
    assert max(apart) < 0.05  # bfloat16 rounds in different places


def test_auto_decides_whether_to_compile(gpu: torch.device, figure: Callable[[str], None]):
    """Both answers are right. The reason against compiling is a sentence, without a traceback."""
    why_not = compiling("auto", stage=2, device=gpu)
    figure(why_not or "compiled steps are faster")
    assert "Traceback" not in why_not
