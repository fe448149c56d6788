"""Differences to the baselines, and the lines about them."""

import math

import pytest

from openrayzer.evaluation.results.against_baselines import against_baselines, verdicts
from openrayzer.evaluation.results.scene_result import SceneResult

PLACEMENTS = ("joint", "context_only")


def results(count: int = 8, **baselines: float) -> list[SceneResult]:
    """Scenes in which ``joint`` has 20 dB and more, and each baseline has some dB more or less than ``joint``."""
    scenes = []
    for number in range(count):
        psnr = {"joint": 20.0 + number, "context_only": 19.0 + number, "joint_exchanged_cameras": 10.0}
        psnr |= {name: psnr["joint"] + by + 0.1 * (-1) ** number for name, by in baselines.items()}
        images = {method: {"psnr": [value], "lpips_vgg": [1 / value]} for method, value in psnr.items()}
        poses = {"joint": {"rpa@15": 0.5}, "straight_line": {"rpa@15": 0.2 + 0.01 * number}}
        poses |= {"colmap": {"rpa@15": 0.9}, "colmap_registered": {"rpa@15": 1.0}}
        scenes.append(SceneResult(str(number), number, [0], [1], images, poses=poses))
    return scenes


def test_a_model_is_better_if_the_interval_excludes_zero():
    table = against_baselines(
        results(nearest_context=-3.0, sfm_joint=0.0, mean_context=2.0), PLACEMENTS, ["psnr", "lpips_vgg"], seed=0
    )
    rows = table["joint"]["psnr"]
    assert {name: row["better"] for name, row in rows.items()} == {
        "nearest_context": True, "sfm_joint": False, "mean_context": False,
    }  # fmt: skip
    assert rows["nearest_context"]["mean"] == pytest.approx(3.0)
    assert rows["nearest_context"]["low"] < 3.0 < rows["nearest_context"]["high"]
    assert rows["nearest_context"]["scenes"] == 8
    lower = table["joint"]["lpips_vgg"]  # lower is better
    assert lower["nearest_context"]["mean"] < 0
    assert lower["nearest_context"]["better"]
    assert not lower["mean_context"]["better"]


def test_a_placement_is_compared_with_the_baseline_of_its_own_placement():
    table = against_baselines(results(sfm_joint=1.0, sfm_context_only=1.0), PLACEMENTS, ["psnr"], seed=0)
    assert list(table["joint"]["psnr"]) == ["sfm_joint"]
    assert list(table["context_only"]["psnr"]) == ["sfm_context_only"]


def test_pairs_that_only_colmap_counts_are_not_compared():
    table = against_baselines(results(), PLACEMENTS, ["psnr"], seed=0)
    assert list(table["joint"]["rpa@15"]) == ["straight_line", "colmap"]
    assert not table["joint"]["rpa@15"]["colmap"]["better"]


def test_values_that_are_not_finite_are_left_out():
    scenes = results(nearest_context=-1.0)
    scenes[3].images["joint"]["psnr"] = [math.nan]
    assert against_baselines(scenes, PLACEMENTS, ["psnr"], seed=0)["joint"]["psnr"]["nearest_context"]["scenes"] == 7


def test_one_scene_shows_nothing():
    table = against_baselines(results(1, nearest_context=-3.0), PLACEMENTS, ["psnr"], seed=0)
    assert not table["joint"]["psnr"]["nearest_context"]["better"]
    assert next(verdicts(table)) == "joint, psnr: not shown to be better than nearest_context (+2.90 in one scene)"


def test_lines_name_the_baselines_on_both_sides():
    table = against_baselines(results(nearest_context=-3.0, mean_context=2.0), PLACEMENTS, ["psnr"], seed=0)
    first, second, *_ = verdicts(table)
    assert first.startswith("joint, psnr: better than nearest_context (+2.9")
    assert "; not shown to be better than mean_context (-2.0" in first
    assert second.startswith("joint, rpa@15: better than straight_line (+0.2")
    assert second.endswith("; not shown to be better than colmap (-0.40 to -0.40)")
