"""Parts of an evaluation: means, intervals, nested subsets, drawn scenes, error maps, metrics."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from openrayzer.evaluation.metrics.image_scores import ImageScores
from openrayzer.evaluation.metrics.intervals import mean_over_scenes, paired_difference
from openrayzer.evaluation.results.scene_result import SceneResult
from openrayzer.evaluation.results.summary import sweep_table
from openrayzer.evaluation.scenes.scene_pictures import (
    EXTREMES,
    FULL_ERROR,
    MAX_VIEWS,
    Extremes,
    drawn_views,
    error_map,
)
from openrayzer.evaluation.scenes.views_sweep import spread_order


def test_what_is_not_finite_is_in_no_mean():
    values = [1.0, math.nan, 3.0, math.inf]
    result = mean_over_scenes(values, seed=0)
    assert (result.mean, result.scenes, result.not_finite) == (2.0, 2, 2)
    assert result.std == pytest.approx(math.sqrt(2))
    assert mean_over_scenes([math.nan], seed=0).mean is None
    assert mean_over_scenes([], seed=0).scenes == 0
    single = mean_over_scenes([5.0], seed=0)
    assert (single.mean, single.std, single.low) == (5.0, None, None)


def test_95_percent_of_the_intervals_contain_the_true_mean():
    generator = np.random.default_rng(0)
    hits = 0
    for trial in range(200):
        result = mean_over_scenes(generator.normal(size=40).tolist(), seed=trial)
        hits += result.low <= 0 <= result.high
    assert 0.88 <= hits / 200 <= 0.99


def test_a_paired_difference_needs_both_and_has_a_short_interval():
    generator = np.random.default_rng(0)
    first = {f"s{i}": value for i, value in enumerate(generator.normal(20, 5, 50))}
    second = {scene: value - 0.5 + generator.normal(0, 0.1) for scene, value in first.items() if scene != "s3"}
    result = paired_difference(first, second, seed=0)
    assert result.scenes == 49
    assert result.low < 0.5 < result.high
    assert result.high - result.low < 0.1


@given(st.lists(st.integers(0, 500), min_size=1, max_size=20, unique=True))
def test_subsets_of_a_sweep_are_nested_and_begin_with_the_ends(frames):
    order = spread_order(frames)
    assert sorted(order) == list(range(len(frames)))
    assert frames[order[0]] == min(frames)
    assert frames[order[min(1, len(order) - 1)]] == max(frames) or len(frames) == 1


def test_a_sweep_over_scenes_with_and_without_true_cameras():
    with_poses = {"joint": {"psnr": 20.0, "rra@5": 0.5}, "constant_pose": {"rra@5": 1.0}}
    rows = [{"joint": {"psnr": 10.0}}, with_poses, {"joint": {"psnr": math.nan}}]
    for order in (rows, rows[::-1]):
        results = [SceneResult(str(number), number, [0], [1], {}, sweep={1: row}) for number, row in enumerate(order)]
        assert sweep_table(results, ["psnr"]) == [
            {"num_context": 1, "scenes": 3, "not_finite": 1,
             "joint": {"psnr": 15.0, "rra@5": 0.5}, "constant_pose": {"rra@5": 1.0}}
        ]  # fmt: skip


def test_subsets_of_a_sweep_are_spread():
    frames = [3, 0, 8, 4, 16, 12]
    assert [frames[place] for place in spread_order(frames)] == [0, 16, 8, 4, 12, 3]


@given(st.lists(st.floats(0, 40), min_size=1, max_size=40), st.integers(0, 5))
def test_the_first_worst_and_best_scenes_keep_their_pictures(qualities, first):
    extremes = Extremes(first=first)
    results = []
    for number, quality in enumerate(qualities):
        result = SceneResult(scene=str(number), number=number, context=[0], target=[1], images={}, quality=quality)
        if extremes.wants(result):
            result.files = {"a": b"1"}
            extremes.add(result)
        results.append(result)
    ranked = sorted(range(len(qualities)), key=lambda number: (qualities[number], number))
    drawn = {result.number for result in results if result.files}
    if first == 0:
        assert drawn == set()
        return
    wanted = {*range(min(first, len(qualities))), *ranked[:EXTREMES]}
    assert wanted <= drawn
    assert len(drawn) <= first + 2 * EXTREMES
    if len({*qualities}) == len(qualities):
        assert drawn == wanted | {*ranked[-EXTREMES:]}


def test_a_scene_without_quality_is_among_the_worst():
    extremes = Extremes(first=1)
    for number, quality in enumerate([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0]):
        extremes.add(SceneResult(str(number), number, [0], [1], {}, quality=quality))
    assert extremes.wants(SceneResult("9", 9, [0], [1], {}, quality=math.nan))
    assert not extremes.wants(SceneResult("10", 10, [0], [1], {}, quality=4.5))


def test_an_error_map_has_a_fixed_scale():
    truth = torch.zeros(3, 2, 3)
    image = torch.zeros(3, 2, 3)
    image[:, 0, 1], image[:, 0, 2], image[0, 1, 0] = FULL_ERROR, 1.0, math.nan
    colours = error_map(image, truth).astype(int)
    assert tuple(colours[0, 0]) == (0, 0, 4)  # inferno starts almost black
    assert (colours[0, 1] == colours[0, 2]).all()
    assert colours[0, 2].sum() > 550  # and ends in a light yellow
    assert (colours[1, 0] == colours[0, 2]).all()


def test_many_views_are_thinned_out_evenly():
    assert drawn_views(3) == (0, 1, 2)
    many = drawn_views(300)
    assert (len(many), many[0], many[-1]) == (MAX_VIEWS, 0, 299)


def test_a_missing_metric_has_a_reason(monkeypatch: pytest.MonkeyPatch, tmp_path):
    monkeypatch.chdir(tmp_path)  # there is no weights/ here
    scores = ImageScores((8, 8), device="cpu")
    assert set(scores.missing) == {"ssim", "lpips_vgg", "lpips_alex"}
    assert "at least 11 x 11" in scores.missing["ssim"]
    target = torch.rand(1, 2, 3, 8, 8)
    prediction = target.clone()
    prediction[0, 1, 0, 0, 0] = math.inf  # clamping makes it white
    values = scores(prediction, target)
    assert list(values) == ["psnr"]
    assert values["psnr"][0, 0] == 100
    assert values["psnr"][0, 1].isnan()


@pytest.mark.filterwarnings("ignore::UserWarning")  # about torchvision and random weights
def test_lpips_is_measured_if_its_weights_are_there(tmp_path):
    from torchvision.models import alexnet

    torch.manual_seed(0)
    file = tmp_path / "alexnet.pth"
    torch.save(alexnet(weights=None).state_dict(), file)
    small = ImageScores((24, 32), weights={"lpips_alex": file}, device="cpu")
    assert "needs images of 31 pixels or more" in small.missing["lpips_alex"]
    assert small.about()["lpips_alex"]["missing"] == small.missing["lpips_alex"]
    scores = ImageScores((32, 40), weights={"lpips_alex": file}, device="cpu")
    assert scores.about()["lpips_alex"]["weights"] == str(file)
    target = torch.rand(1, 3, 3, 32, 40)
    prediction = target.clone()
    prediction[0, 1] = 1 - target[0, 1]
    prediction[0, 2, 0, 0, 0] = math.nan
    values = scores(prediction, target)["lpips_alex"][0]
    assert values[0] == pytest.approx(0, abs=1e-6)
    assert values[1] > 1e-3
    assert values[2].isnan()
