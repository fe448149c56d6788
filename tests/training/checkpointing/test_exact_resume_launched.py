"""A resumed run of two launched ranks equals an uninterrupted one to the bit, with every feature on."""

import json
import shutil
from pathlib import Path

import pytest
from launching import launch

from openrayzer.weights.checkpoints.manifest import read_manifest

FOLDER = Path(__file__).parents[1]
STEPS, STOP, JUMP = 8, 4, 3
"""Steps of the run; step after which it stops; step from which on its loss is several times as large."""
LOSS = [{"loss": {"type": "mse"}}, {"loss": {"type": "l1"}, "start_step": JUMP}]
AUGMENTATIONS = [{"type": "horizontal_flip"}, {"type": "time_reversal"}, {"type": "colour_jitter"}]
COMMON = (
    f"train.steps={STEPS}", "train.batch_size=8", "train.accumulation=2", "train.ema_decay=0.9",
    f"train.bad_steps={json.dumps({'loss_factor': 2, 'grace_steps': JUMP})}", "train.focal_detached_steps=5",
    "train.checkpoint_every=2", "train.keep_checkpoints=9", "train.evaluate_every=2", "train.best_metric=psnr",
    "train.log_every=3", "train.statistics_every=2", "train.sample_every=4",
    f"loss={json.dumps(LOSS)}", f"data.augmentations={json.dumps(AUGMENTATIONS)}", "data.workers=2",
)  # fmt: skip
CURRICULUM = {
    "type": "window_curriculum", "num_context": [2, 3], "num_target": 2, "split": "random", "curriculum_steps": 8,
    "start_min_frame_distance": 4, "start_max_frame_distance": 4, "min_frame_distance": 4, "max_frame_distance": 5,
}  # fmt: skip
RUNS = {
    "tiny_rayzer": (f"data.view_sampler={json.dumps(CURRICULUM)}",),
    "tiny_rayder": ("model.state_dropout=0.5", "data.view_sampler.num_views=[3, 4]"),  # each rank draws for itself
}
UNTIMED = ("seconds", "views_per_second", "data_wait")


@pytest.mark.slow
@pytest.mark.parametrize("name", list(RUNS))
def test_resumed_ranks_with_every_feature_on_are_equal_to_the_bit(tmp_path: Path, name: str):
    experiment, settings = FOLDER / f"{name}.json", (*COMMON, *RUNS[name])
    launch(tmp_path, experiment, "straight", *settings, ranks=2)
    straight, stopped = tmp_path / "straight", tmp_path / "stopped"
    shutil.copytree(straight, stopped)
    for path in (stopped / "checkpoints").glob("step_*"):
        if path.name > f"step_{STOP:08d}":  # as if it had been killed there
            shutil.rmtree(path)
    said = launch(tmp_path, experiment, "stopped", *settings, ranks=2)
    assert f"step_{STOP:08d}, step {STOP} of {STEPS}" in said
    for file in ("metrics.jsonl", "statistics.jsonl"):
        assert lines(straight / file) == lines(stopped / file)
    last = lines(straight / "metrics.jsonl")[-3]  # test and test_ema follow
    assert last["step"] == STEPS
    assert 1 < last["skipped"] < STEPS - STOP  # jumps on both sides of the stop, and good steps after them
    for step in range(STOP, STEPS + 1, 2):
        assert files(straight, step) == files(stopped, step)
    assert files(straight, STOP) != files(straight, STEPS)


def lines(file: Path) -> list[dict]:
    """The lines without times."""
    records = [json.loads(line) for line in file.read_text().splitlines()]
    return [{key: value for key, value in record.items() if key not in UNTIMED} for record in records]


def files(run: Path, step: int) -> dict[str, list[int]]:
    """Checksums of the numbers in a checkpoint: weights, moments, averages, generators of both ranks, counts."""
    found = read_manifest(run / f"checkpoints/step_{step:08d}")["files"]
    assert {"rank_00000.pt", "rank_00001.pt", "ema_rank_00000.pt", "ema_rank_00001.pt"} < found.keys()
    return {name: facts for name, facts in found.items() if name.endswith(".pt")}
