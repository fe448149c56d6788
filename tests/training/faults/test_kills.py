"""Runs that are killed at random moments and resumed lose no published checkpoint and end equal to the bit.

``OPENRAYZER_KILLS`` is the number of kills, 200 by default; ``OPENRAYZER_KILLS_SEED`` determines the moments.
"""

import os
from pathlib import Path

import pytest
from kills import Campaign
from ranks import fork_server


def campaign(folder: Path, *, kills: int, seed: int, settings: tuple[str, ...] = ()) -> None:
    with fork_server(folder) as server:
        tally = Campaign(server, folder, seed=seed, settings=settings).run(kills)
    assert tally.kills == kills
    assert tally.runs >= 1
    assert tally.slowest_end < 120


@pytest.mark.slow
def test_a_few_kills(tmp_path: Path):
    campaign(tmp_path, kills=3, seed=7, settings=("train.steps=20",))


@pytest.mark.slow
def test_hundreds_of_kills(tmp_path: Path):
    kills, seed = int(os.environ.get("OPENRAYZER_KILLS", "200")), int(os.environ.get("OPENRAYZER_KILLS_SEED", "0"))
    campaign(tmp_path, kills=kills, seed=seed)


@pytest.mark.slow
def test_kills_with_loading_processes_and_an_average_of_the_weights(tmp_path: Path):
    campaign(tmp_path, kills=6, seed=3, settings=("train.steps=30", "data.workers=1", "train.ema_decay=0.9"))
