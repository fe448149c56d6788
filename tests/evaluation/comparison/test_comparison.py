"""Comparison of runs and evaluations: numbers, notes, and pairs that are not compared."""

import itertools
import json
import re
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from folders import VIEWS, write_evaluation, write_log, write_run

from openrayzer.evaluation.comparison.charts import draw_charts
from openrayzer.evaluation.comparison.comparison import compare
from openrayzer.evaluation.comparison.comparison_files import markdown, write_comparison
from openrayzer.evaluation.comparison.scene_pairs import sign_flip_p_value
from openrayzer.interfaces import InputError

ROOT = Path(__file__).parents[3]
SCENES = {f"scene_{number}": 20.0 + number for number in range(6)}


def better(by, scenes=SCENES):
    return {scene: value + by + 0.1 * place for place, (scene, value) in enumerate(scenes.items())}


def beside(folders, **options):
    return compare(folders, metric=options.pop("metric", "psnr"), flops=lambda run: 1e6, **options)


def test_two_runs_are_paired_by_scene(tmp_path):
    first, second = write_run(tmp_path / "a", SCENES), write_run(tmp_path / "b", better(1.0), seconds=3.0)
    comparison = beside([first, second])
    (pair,) = comparison.pairs
    assert pair.obstacles == ()
    assert pair.mean.mean == pytest.approx(1.25)
    assert pair.mean.low <= 1.25 <= pair.mean.high
    assert pair.mean.low >= 1.0
    assert pair.mean.high <= 1.5
    assert (pair.higher, pair.lower) == (6, 0)
    assert pair.p_value == pytest.approx(2 / 2**6)  # only two of 2^6 choices of signs are as far from 0
    assert [entry.seconds for entry in comparison.entries] == [80, 120]
    assert [entry.flops for entry in comparison.entries] == [4e7, 4e7]
    assert comparison.entries[1].curve == ((20, 60.0, 2e7, 12.0), (40, 120.0, 4e7, 14.0))


def test_the_sign_flip_test_is_exact_for_few_scenes():
    differences = np.array([0.5, -0.2, 0.9, 0.3, 0.1])
    signs = np.array(list(itertools.product([1, -1], repeat=5)))
    means = (signs * differences).mean(axis=1)
    expected = np.mean(np.abs(means) >= abs(differences.mean()) - 1e-12)
    assert sign_flip_p_value(differences) == pytest.approx(expected)


def test_equal_sides_have_no_difference(tmp_path):
    folder = write_run(tmp_path / "a", SCENES)
    (pair,) = beside([folder, folder]).pairs
    assert pair.mean.mean == 0
    assert (pair.higher, pair.lower, pair.p_value) == (0, 0, 1.0)


def test_a_baseline_can_be_compared_too(tmp_path):
    comparison = beside([write_run(tmp_path / "a", SCENES)], method="nearest_context")
    assert comparison.entries[0].means["psnr"].mean == 9
    assert [point[3] for point in comparison.entries[0].curve] == [9, 9]
    shuffled = beside([tmp_path / "a"], method="joint_exchanged_cameras")
    assert shuffled.entries[0].means["psnr"].mean == pytest.approx(20.5)


def test_an_evaluation_finds_the_run_it_came_from(tmp_path):
    run = write_run(tmp_path / "run", SCENES)
    known, unknown = write_evaluation(tmp_path / "a", SCENES, run=run), write_evaluation(tmp_path / "b", SCENES)
    comparison = beside([known, unknown])
    assert [entry.seconds for entry in comparison.entries] == [80, None]
    assert any("the run elsewhere is not here" in note for note in comparison.notes)


@pytest.mark.parametrize(
    ("metric", "changes", "message"),
    [
        ("psnr", {"settings": {"image_size": [64, 64]}}, "different image sizes: [32, 48] and [64, 64]"),
        ("psnr", {"settings": {"crop": "none"}}, "different crops: centre and none"),
        ("ssim", {"settings": {"ssim": "flat 7"}}, "different definitions of ssim: gaussian 11 and flat 7"),
        ("lpips_vgg", {"settings": {"lpips": {"vgg": "mine.pth"}}}, "different weights of lpips_vgg: vgg.pth and "),
        ("psnr", {"views": {"context": [0, 9], "target": [1, 2]}}, "different context or target views in 6 of 6"),
        ("psnr", {"scenes": {"other": 1.0}}, "they have no scene in common"),
    ],
)  # fmt: skip
def test_numbers_of_different_quantities_are_not_compared(tmp_path, metric, changes, message):
    first = write_evaluation(tmp_path / "a", SCENES)
    second = write_evaluation(tmp_path / "b", **({"scenes": SCENES} | changes))
    comparison = beside([first, second], metric=metric)
    (pair,) = comparison.pairs
    assert any(message in obstacle for obstacle in pair.obstacles)
    assert pair.differences == {}
    assert pair.mean.mean is None
    assert f"**not compared**: {message}" in markdown(comparison)


def test_scenes_of_equal_names_and_different_images_are_not_compared(tmp_path):
    first, second = write_run(tmp_path / "a", SCENES), write_run(tmp_path / "b", SCENES)
    file = second / "evaluation/metrics.json"
    metrics = json.loads(file.read_text())
    for nearest, obstacles in ((9.05, 0), (9.5, 1)):
        metrics["scenes"]["scene_3"]["psnr_nearest_context"] = nearest
        file.write_text(json.dumps(metrics))
        (pair,) = beside([first, second]).pairs
        assert len(pair.obstacles) == obstacles
        assert len(pair.differences) == (0 if obstacles else 6)
    assert "'scene_3' has 9.00 dB and 9.50 dB" in pair.obstacles[0]


@pytest.mark.parametrize(
    "settings", [{"ssim": "flat 7"}, {"lpips": {"vgg": "/models/vgg.pth"}}, {"precision": "bfloat16"}]
)
def test_settings_that_do_not_affect_the_metric_may_differ(tmp_path, settings):
    folders = [write_evaluation(tmp_path / "a", SCENES), write_evaluation(tmp_path / "b", SCENES, settings=settings)]
    assert beside(folders).pairs[0].obstacles == ()
    assert beside(folders, metric="lpips_vgg").pairs[0].obstacles == ()


def test_allowed_differences_are_notes(tmp_path):
    first = write_evaluation(tmp_path / "a", SCENES)
    fewer = dict(list(SCENES.items())[:4]) | {"scene_0": None}
    second = write_evaluation(tmp_path / "b", fewer, settings={"precision": "bf16", "index": {"sha256": "b"}})
    (pair,) = beside([first, second]).pairs
    assert len(pair.differences) == 3
    told = "\n".join(pair.notes)
    assert f"2 of 6 scenes are only in {first}" in told
    assert "1 common scenes have a value that is not finite" in told
    assert "precision: float32 and bf16" in told
    assert "different checksums" in told


def test_two_placements_are_a_note(tmp_path):
    first = write_evaluation(tmp_path / "a", SCENES)
    second = write_run(tmp_path / "b", SCENES)
    metrics = json.loads((second / "evaluation/metrics.json").read_text())
    (second / "evaluation/metrics.json").write_text(json.dumps(metrics | {"target_pixels_used_for_cameras": False}))
    comparison = beside([first, second])
    assert "targets are placed in two ways: joint and given_poses" in comparison.pairs[0].notes


def test_a_run_without_evaluation_has_its_last_test_line_and_no_pair(tmp_path):
    first = write_run(tmp_path / "a", SCENES)
    lines = [{"step": 10, "split": "train", "seconds": 1.0}, {"step": 10, "split": "test", "psnr": 17.5}]
    write_log(tmp_path / "b", lines)
    comparison = beside([first, tmp_path / "b"])
    assert comparison.entries[1].means["psnr"].mean == 17.5
    assert comparison.pairs[0].obstacles == (f"{tmp_path / 'b'} has no psnr of single scenes for joint",)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metric": "psnrr"}, "no folder has the metric 'psnrr'; known: psnr"),
        ({"method": "jointt"}, "no scene has the method 'jointt'; known: joint, nearest_context"),
    ],
)
def test_unknown_metrics_and_methods_are_refused(tmp_path, options, message):
    write_run(tmp_path / "a", SCENES)
    with pytest.raises(InputError, match=re.escape(message)):
        beside([tmp_path / "a"], **options)


def test_flops_that_cannot_be_counted_are_a_note(tmp_path):
    comparison = compare([write_run(tmp_path / "a", SCENES)], metric="psnr")  # its experiment has no model
    assert comparison.entries[0].flops is None
    assert any("FLOPs are not counted" in note for note in comparison.notes)


def test_files_have_the_result(tmp_path):
    folders = [write_run(tmp_path / "a", SCENES), write_run(tmp_path / "b|c", better(-0.5))]
    comparison = beside(folders)
    files = write_comparison(comparison, tmp_path / "out", plots=draw_charts)
    assert [file.name for file in files] == ["comparison.json", "comparison.md", "curves.png", "differences.png"]
    values = json.loads(files[0].read_text())
    assert values["pairs"][0]["second"] == "b|c"
    assert values["pairs"][0]["mean"]["mean"] == pytest.approx(-0.25)
    table = files[1].read_text().splitlines()
    assert len({line.replace("\\|", "").count("|") for line in table[:4]}) == 1
    assert all(file.stat().st_size > 5000 for file in files[2:])


def test_the_tool_prints_a_table_and_refuses_other_folders(tmp_path, monkeypatch, capsys):
    write_evaluation(tmp_path / "a", SCENES)
    write_evaluation(tmp_path / "b", better(1.0), views=VIEWS)
    monkeypatch.chdir(tmp_path)
    assert tool(monkeypatch, "a", "b", "--method", "context_only", "--output", "out") == 0
    printed = capsys.readouterr()
    assert "| b minus a | +1.25 (" in printed.out
    assert "wrote out/differences.png" in printed.err
    Path("empty").mkdir()
    assert tool(monkeypatch, "a", "empty") == 2
    assert capsys.readouterr().err.startswith("error: empty is neither a run (metrics.jsonl) nor an evaluation")
    assert tool(monkeypatch, "nowhere") == 2
    assert capsys.readouterr().err == "error: there is no folder nowhere\n"


def test_without_matplotlib_the_numbers_are_written(tmp_path, monkeypatch, capsys):
    write_evaluation(tmp_path / "a", SCENES)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert tool(monkeypatch, "a", "--output", "out") == 0
    assert "no plots" in capsys.readouterr().err
    assert sorted(file.name for file in Path("out").iterdir()) == ["comparison.json", "comparison.md"]


def tool(monkeypatch, *arguments):
    """The exit code of tools/compare_runs.py, run in this process to save the time of the imports."""
    monkeypatch.setattr(sys, "argv", ["compare_runs.py", *arguments])
    with pytest.raises(SystemExit) as stopped:
        runpy.run_path(str(ROOT / "tools/compare_runs.py"), run_name="__main__")
    return stopped.value.code
