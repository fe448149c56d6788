"""A resumed run equals an uninterrupted one to the bit, with every feature on that could make a difference."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from openrayzer.weights.finding import find_weights, load_weights

pytestmark = [pytest.mark.filterwarnings("ignore::FutureWarning"), pytest.mark.filterwarnings("ignore::UserWarning")]

FOLDER = Path(__file__).parents[1]
COMMON = (
    "train.steps=4", "train.checkpoint_every=2", "train.log_every=1", "train.sample_every=2", "train.evaluate_every=2",
    "train.ema_decay=0.9", "train.best_metric=psnr", "train.statistics_every=2", "train.focal_detached_steps=3",
    'train.bad_steps={"loss_factor": 50, "grace_steps": 1}', "train.accumulation=2",
    'data.augmentations=[{"type": "horizontal_flip"}, {"type": "time_reversal"}, {"type": "colour_jitter"}]',
)  # fmt: skip
CURRICULUM = json.dumps(
    {"type": "window_curriculum", "num_context": [2, 3], "num_target": 2, "split": "random", "curriculum_steps": 5,
     "start_min_frame_distance": 4, "start_max_frame_distance": 4, "min_frame_distance": 4, "max_frame_distance": 5}
)  # fmt: skip
RUNS = {
    "tiny_rayzer": ("data.workers=1", f"data.view_sampler={CURRICULUM}"),
    "tiny_rayder": ("data.workers=0", "model.state_dropout=0.5"),  # draws in its forward pass
}
UNTIMED = ("seconds", "views_per_second", "data_wait")


@pytest.mark.usefixtures("rooms")
@pytest.mark.parametrize("name", list(RUNS))
def test_a_resumed_run_with_every_feature_on_is_equal_to_the_bit(
    train_file: Callable[..., int], tmp_path: Path, name: str
):
    straight, stopped = tmp_path / "straight", tmp_path / "stopped"
    changes = (*COMMON, *RUNS[name])
    assert train_file(FOLDER / f"{name}.json", straight, *changes) == 0
    shutil.copytree(straight, stopped)
    for path in (stopped / "checkpoints").glob("step_*"):
        if path.name > "step_00000002":  # as if it had been killed after step 2
            shutil.rmtree(path)
    torch.manual_seed(99)
    assert train_file(FOLDER / f"{name}.json", stopped, *changes) == 0
    for file in ("metrics.jsonl", "statistics.jsonl"):
        assert lines(straight / file) == lines(stopped / file)
    assert len(lines(straight / "statistics.jsonl")) == 2
    for kind in ("raw", "ema"):
        one, other = (load_weights(find_weights(run), weights=kind) for run in (straight, stopped))
        assert all(torch.equal(value, other[key]) for key, value in one.items())
    mine, theirs = (
        torch.load(run / "checkpoints/step_00000004/rank_00000.pt", weights_only=True) for run in (straight, stopped)
    )
    for state in (mine, theirs):
        del state["random"]["python"]  # the type checker of the tests draws from it
    assert str(mine) == str(theirs)


def lines(file: Path) -> list[dict]:
    """The lines without times."""
    records = [json.loads(line) for line in file.read_text().splitlines()]
    return [{key: value for key, value in record.items() if key not in UNTIMED} for record in records]
