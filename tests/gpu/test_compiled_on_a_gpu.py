"""``train.compile`` on a GPU: three steps of it lose what three steps without it lose."""

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
def test_compiled_steps_lose_what_plain_ones_do(
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
    figure("loss and norm apart by " + ", ".join(f"{each:.1e}" for each in apart))
    assert len(pairs) == 3
    assert max(apart) < 0.05  # bfloat16, rounded in other places


def test_auto_finds_out_whether_it_pays(gpu: torch.device, figure: Callable[[str], None]):
    """Either answer is right; where it is no, the reason is one that check_gpu.py and docs/gpus.md can help with."""
    why_not = compiling("auto", stage=2, device=gpu)
    figure(why_not or "it pays")
    assert "Traceback" not in why_not
