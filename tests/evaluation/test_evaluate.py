"""A whole evaluation in one process: equal numbers for any division of the work, and a reason for each missing one."""

import csv
import json
import math
import shutil
from collections import defaultdict
from pathlib import Path
from statistics import fmean

import numpy as np
import pytest
import torch
from PIL import Image
from threaded_ranks import Ranks

from openrayzer.data.sources.synthetic import SyntheticRooms
from openrayzer.evaluation import evaluate as evaluation
from openrayzer.evaluation.opening import open_evaluation
from openrayzer.evaluation.report import write_report
from openrayzer.evaluation.request import EvaluationRequest
from openrayzer.evaluation.results.printed_table import result_table
from openrayzer.interfaces import InputError
from openrayzer.machine import fitting_batches
from openrayzer.models.rayzer import RayZer
from openrayzer.training.held_out import HeldOutResults, measure
from openrayzer.types import Cameras, Scene

SWEEP = (1, 2, 3)
LVSM = {
    "type": "lvsm_decoder_only",
    "position_encoding": {"type": "none"},
    "fusion": {"type": "pixel"},
    "renderer": {"type": "joint", "depth": 1},
}


def numbers(metrics: dict) -> dict:
    """The numbers that must not depend on the division of the work."""
    parts = ("summary", "differences", "poses", "depth", "transfer", "sanity", "views_sweep", "targets", "per_scene")
    return {name: metrics[name] for name in parts}


def leaves(value: object, path: str = "") -> dict[str, object]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
    if items is None:
        return {path: value}
    return {key: leaf for name, item in items for key, leaf in leaves(item, f"{path}/{name}").items()}


def files(folder: Path) -> dict[str, bytes]:
    paths = [path for path in folder.rglob("*") if path.is_file() and path.name not in ("metrics.json", "report.html")]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def test_one_and_two_ranks_give_equal_numbers_bit_for_bit(rayzer: Path, evaluate, tmp_path: Path):
    trials = {"sweep": SWEEP, "sanity": True, "transfer": True, "baselines": ()}
    alone = evaluate(rayzer, **trials)
    request = EvaluationRequest(run=str(rayzer), output=tmp_path / "two", **trials)
    first, second = Ranks(2).each(lambda process: evaluation.evaluate(request, process))
    assert second == {}
    assert numbers(first) == numbers(alone)
    assert first["settings"]["world_size"] == 2
    assert first["scenes"]["evaluated"] == 3
    assert files(tmp_path / "two") == files(tmp_path / "out")
    assert alone["transfer"]["pairs"] == 2  # the third scene has no partner
    assert alone["sanity"]["joint"]["shuffled_order"]["scenes"] == 3
    assert "dropped_views" not in alone["sanity"]["context_only"]
    assert sum("context_only: dropped_views is left out" in note for note in alone["scenes"]["problems"]) == 1


def test_batch_size_changes_only_rounding(rayzer: Path, evaluate):
    one = leaves(numbers(evaluate(rayzer)))
    for batch_size in (2, 3):
        other = leaves(numbers(evaluate(rayzer, batch_size=batch_size)))
        assert other.keys() == one.keys()
        for path, value in one.items():
            assert other[path] == (pytest.approx(value, abs=1e-4) if isinstance(value, float) else value), path


def test_views_at_once_change_only_rounding(rayzer: Path, evaluate):
    few, many = (leaves(evaluate(rayzer, views_at_once=count)["summary"]) for count in (1, 16))
    assert few == {path: pytest.approx(value, abs=1e-4) for path, value in many.items()}


@pytest.mark.parametrize("found", ["when a GPU fails", "before a CPU would"])
def test_with_too_little_memory_fewer_targets_are_rendered_together(rayzer: Path, evaluate, monkeypatch, found: str):
    alone = numbers(evaluate(rayzer, views_at_once=1))
    together, render = [], RayZer.render

    def limited(model: RayZer, scene: Scene, cameras: Cameras) -> torch.Tensor:
        together.append(cameras.num_views)
        if cameras.num_views > 1 and found == "when a GPU fails":
            raise torch.OutOfMemoryError("CUDA out of memory")
        return render(model, scene, cameras)

    monkeypatch.setattr(RayZer, "render", limited)
    if found == "before a CPU would":
        monkeypatch.setattr(fitting_batches, "available_bytes", lambda: 1)
    assert numbers(evaluate(rayzer)) == alone
    assert together.count(2) == (found == "when a GPU fails")  # once; then the limit is known
    assert together.count(1) == 4 * 6 + 4  # each target in two placements and exchanged; and the trial of the first


def test_scenes_without_enough_memory_are_skipped_with_a_reason(rayzer: Path, evaluate, monkeypatch):
    def failing(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(RayZer, "render", failing)
    with pytest.raises(InputError, match="none of 3 scenes could be evaluated: not enough memory for a single view"):
        evaluate(rayzer)


def test_the_evaluation_while_training_gives_the_numbers_of_joint(
    rayzer: Path, evaluate, process, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    metrics = evaluate(rayzer)
    opened = open_evaluation(EvaluationRequest(run=str(rayzer), output=tmp_path, baselines=()), process)
    results, numbers = HeldOutResults(), {scene: number for number, scene in enumerate(opened.clips.choices)}
    rendered, render = [], RayZer.render
    monkeypatch.setattr(RayZer, "render", lambda *given: rendered.append(1) or render(*given))
    with torch.no_grad():
        for views in opened.clips:
            measure(opened.model, views, opened.scores, results, numbers=numbers)
    assert len(results.means) == 3
    assert len(rendered) == 2 * 3  # per batch of one scene: with its own and with exchanged cameras
    for scene, row in results.means.items():
        mine = metrics["per_scene"][scene]["metrics"]
        assert mine["joint"]["psnr"] == pytest.approx(row["psnr"], abs=1e-4)
        assert mine["nearest_context"]["psnr"] == pytest.approx(row["psnr_nearest_context"], abs=1e-4)
        assert mine["joint_exchanged_cameras"]["psnr"] == pytest.approx(row["psnr_exchanged_cameras"], abs=1e-4)


def test_every_table_is_the_mean_of_the_finer_one(rayzer: Path, evaluate, tmp_path: Path):
    evaluate(rayzer)
    metrics = json.loads((tmp_path / "out/metrics.json").read_text())
    views = defaultdict(list)
    with (tmp_path / "out/per_view.csv").open(newline="") as file:
        for line in csv.DictReader(file):
            views[line["scene"], line["method"]].append(float(line["ssim"]))
    assert {method for _, method in views} == metrics["summary"].keys()
    for (scene, method), values in views.items():
        assert metrics["per_scene"][scene]["metrics"][method]["ssim"] == pytest.approx(fmean(values))
        assert len(values) == len(metrics["per_scene"][scene]["target"])
    for method, row in metrics["summary"].items():
        scenes = [entry["metrics"][method]["ssim"] for entry in metrics["per_scene"].values()]
        assert row["ssim"]["mean"] == pytest.approx(fmean(scenes))
        assert row["ssim"]["low"] <= row["ssim"]["mean"] <= row["ssim"]["high"]
    gap = metrics["differences"]["joint_minus_context_only"]["psnr"]["mean"]
    summary = metrics["summary"]
    assert gap == pytest.approx(summary["joint"]["psnr"]["mean"] - summary["context_only"]["psnr"]["mean"])
    assert summary["joint"]["lpips_vgg"] == {
        "mean": None, "std": None, "low": None, "high": None, "scenes": 0, "not_finite": 0,
        "mean_without_context_targets": None,
    }  # fmt: skip
    assert "vgg16-397923af.pth" in metrics["metrics"]["lpips_vgg"]["missing"]


def test_a_prediction_that_is_not_finite_is_counted_and_in_no_mean(
    rayzer: Path, evaluate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    good = evaluate(rayzer)
    render, calls = RayZer.render, []

    def broken(self, scene, cameras):
        images = render(self, scene, cameras).clone()
        if cameras.num_views > 1:  # not the trial of the memory of one target
            if not calls:  # the first scene with joint placement
                images[0, 1, 0, 0, 0] = math.inf
            calls.append(1)
        return images

    monkeypatch.setattr(RayZer, "render", broken)
    metrics = evaluate(rayzer)
    scene = next(iter(metrics["per_scene"]))
    row = metrics["summary"]["joint"]["psnr"]
    assert (row["scenes"], row["not_finite"], metrics["targets"]["not_finite"]) == (2, 1, 1)
    assert metrics["per_scene"][scene]["metrics"]["joint"]["psnr"] is None
    others = [entry["metrics"]["joint"]["psnr"] for name, entry in good["per_scene"].items() if name != scene]
    assert row["mean"] == pytest.approx(fmean(others))
    assert metrics["summary"]["context_only"] == good["summary"]["context_only"]
    assert metrics["differences"]["joint_minus_context_only"]["psnr"]["scenes"] == 2
    assert any("1 rendered target" in problem for problem in metrics["scenes"]["problems"])
    lines = (tmp_path / "out/per_view.csv").read_text().splitlines()
    assert [line for line in lines if line.startswith(scene) and ",joint,,,," in line]


def test_a_model_that_renders_only_nan_is_evaluated(
    rayzer: Path, evaluate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    render = RayZer.render
    monkeypatch.setattr(RayZer, "render", lambda *arguments: render(*arguments) * math.nan)
    metrics = evaluate(rayzer, sweep=(2,), sanity=True, transfer=True)
    assert metrics["targets"]["not_finite"] == metrics["targets"]["evaluated"] == 6
    assert metrics["sanity"]["joint"]["colour_change"]["psnr_change"] is None
    assert metrics["sanity"]["joint"]["colour_change"]["passed"] == 0
    (swept,) = metrics["views_sweep"]
    assert (swept["scenes"], swept["not_finite"], swept["joint"]["psnr"]) == (3, 3, None)
    assert "views sweep: 3 scenes are not finite with 2 contexts and in no mean" in metrics["scenes"]["problems"]
    lines = result_table(metrics, tmp_path).splitlines()
    assert next(line for line in lines if line.startswith("joint ")).split() == ["joint", "-", "-", "-", "-"]
    assert next(line for line in lines if line.startswith("colour_change")).split()[:3] == ["colour_change", "0%", "-"]


def test_transfer_leaves_out_clips_that_the_model_refuses(
    rayzer: Path, evaluate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    names = list(evaluate(rayzer, pictures=0)["per_scene"])
    few, many = ({"context": context, "target": [2, 3]} for context in ([0, 5], [0, 1, 5]))
    (tmp_path / "index.json").write_text(json.dumps(dict(zip(names, [few, many, many], strict=True))))
    estimate = RayZer.estimate

    def picky(self, images, intrinsics=None):
        if images.shape[1] == 5:
            raise InputError("five views are too many")
        return estimate(self, images, intrinsics)

    monkeypatch.setattr(RayZer, "estimate", picky)
    metrics = evaluate(rayzer, index=tmp_path / "index.json", placements=("joint",), transfer=True)
    assert metrics["scenes"]["skipped"] == dict.fromkeys(names[1:], "five views are too many")
    assert metrics["transfer"] is None
    (problem,) = (text for text in metrics["scenes"]["problems"] if text.startswith("no transfer between"))
    assert problem == f"no transfer between {names[1]} and {names[2]}: five views are too many"


def test_a_trial_that_the_model_refuses_is_left_out_with_a_reason(
    rayzer: Path, evaluate, monkeypatch: pytest.MonkeyPatch
):
    estimate = RayZer.estimate

    def picky(self, images, intrinsics=None):
        if images.shape[1] != 5:
            raise InputError("I take five views")
        return estimate(self, images, intrinsics)

    monkeypatch.setattr(RayZer, "estimate", picky)
    metrics = evaluate(rayzer, placements=("joint",), sweep=(2,), sanity=True, pictures=0)
    assert (metrics["scenes"]["evaluated"], metrics["scenes"]["skipped"]) == (3, {})
    assert (metrics["views_sweep"], metrics["sanity"]) == (None, None)
    for scene in metrics["per_scene"]:
        for trial in ("views sweep", "sanity battery"):
            assert f"no {trial} for {scene}: I take five views" in metrics["scenes"]["problems"]


def test_another_model_may_judge_the_transfer(rayzer: Path, make_run, evaluate):
    posed = make_run(LVSM)
    with pytest.raises(InputError, match=r"needs a model that estimates cameras.*--transfer_oracle"):
        evaluate(posed, transfer=True)
    with pytest.raises(InputError, match=r"must estimate cameras from images alone; .* is given poses"):
        evaluate(rayzer, transfer=True, transfer_oracle=str(posed))
    judged = evaluate(posed, transfer=True, transfer_oracle=str(rayzer), pictures=0)["transfer"]
    assert judged["oracle"] == str(rayzer)
    assert judged["pairs"] == 2
    own = evaluate(rayzer, transfer=True, pictures=0)["transfer"]
    alike = evaluate(rayzer, transfer=True, transfer_oracle=str(rayzer), pictures=0)["transfer"]
    assert alike["joint"] == own["joint"]
    assert judged["given_poses"]["undriven"] == own["joint"]["undriven"]  # the same oracle, the same images


def test_with_many_views_only_scenes_with_pictures_have_cameras(
    rayzer: Path, evaluate, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(evaluation, "MOST_CAMERAS", 15)  # three scenes of five views
    assert all("cameras" in entry for entry in evaluate(rayzer, pictures=0)["per_scene"].values())
    monkeypatch.setattr(evaluation, "MOST_CAMERAS", 14)
    assert not any("cameras" in entry for entry in evaluate(rayzer, pictures=0)["per_scene"].values())
    drawn = evaluate(rayzer, pictures=1)["per_scene"].values()  # all scenes are among the worst and best four
    assert all("cameras" in entry and "pictures" in entry for entry in drawn)


def test_cameras_that_are_not_finite_have_no_pose_metrics(rayzer: Path, evaluate, monkeypatch: pytest.MonkeyPatch):
    estimate, calls = RayZer.estimate, []

    def broken(self, images, intrinsics=None):
        cameras = estimate(self, images, intrinsics)
        calls.append(1)
        return cameras if len(calls) > 1 else type(cameras)(cameras.c2w * math.nan, cameras.intrinsics)

    monkeypatch.setattr(RayZer, "estimate", broken)
    metrics = evaluate(rayzer, placements=("joint",), pictures=0)
    assert metrics["poses"]["joint"]["rra@5"] == {
        "mean": metrics["poses"]["joint"]["rra@5"]["mean"], "scenes": 2, "not_finite": 1
    }  # fmt: skip
    first = next(iter(metrics["per_scene"].values()))
    assert first["cameras"]["joint"] is None
    assert first["poses"]["joint"]["rra@5"] is None
    assert metrics["poses"]["constant_pose"]["rra@5"]["scenes"] == 3


def test_a_target_that_is_a_context_is_counted_and_can_be_left_out(rayzer: Path, evaluate, tmp_path: Path, rooms: Path):
    names = list(evaluate(rayzer, pictures=0)["per_scene"])
    index = {names[0]: {"context": [0, 5], "target": [2, 5]}, names[1]: {"context": [0, 5], "target": [0]}}
    (tmp_path / "index.json").write_text(json.dumps(index))
    metrics = evaluate(rayzer, index=tmp_path / "index.json")
    assert metrics["targets"] == {"expected": 3, "evaluated": 3, "equal_to_a_context": 2, "not_finite": 0}
    nearest = metrics["summary"]["nearest_context"]["psnr"]
    first = metrics["per_scene"][names[0]]["metrics"]["nearest_context"]["psnr"]
    assert metrics["per_scene"][names[1]]["metrics"]["nearest_context"]["psnr"] == 100
    assert nearest["mean"] == pytest.approx((first + 100) / 2)
    assert nearest["mean_without_context_targets"] == pytest.approx(2 * first - 100)
    assert f"{names[1]},0,1,joint," in (tmp_path / "out/per_view.csv").read_text()
    assert "joint_exchanged_cameras" not in metrics["per_scene"][names[1]]["metrics"]
    assert metrics["settings"]["index"]["sha256"]


def test_every_listed_scene_is_evaluated_or_has_a_reason(rayzer: Path, evaluate, tmp_path: Path):
    names = list(evaluate(rayzer, pictures=0)["per_scene"])
    index = {
        names[0]: {"context": [0, 1, 5], "target": [2]}, names[1]: {"context": [0, 9], "target": [2]},
        names[2]: None, "nowhere": {"context": [0], "target": [1]},
    }  # fmt: skip
    (tmp_path / "index.json").write_text(json.dumps(index))
    given = evaluate(rayzer, index=tmp_path / "index.json")
    scenes = given["scenes"]
    assert (scenes["expected"], scenes["evaluated"]) == (4, 1)
    reasons = [scenes["skipped"][name] for name in (names[1], names[2], "nowhere")]
    assert [word in reason for word, reason in zip(("9", "null", "no test source"), reasons, strict=True)] == [True] * 3
    sampler = {"type": "evaluation_index", "path": str(tmp_path / "index.json")}
    own = evaluate(rayzer, overrides=(f"evaluation.view_sampler={json.dumps(sampler)}",))
    assert own["settings"]["index"] == given["settings"]["index"]
    assert own["summary"] == given["summary"]


def test_scenes_may_differ_in_numbers_of_views(rayzer: Path, evaluate, tmp_path: Path):
    names = list(evaluate(rayzer, pictures=0)["per_scene"])
    index = {
        names[0]: {"context": [0, 5], "target": [2]}, names[1]: {"context": [3], "target": [0, 1, 2]},
        names[2]: {"context": [5, 0, 2, 3], "target": [4, 1]},
    }  # fmt: skip
    (tmp_path / "index.json").write_text(json.dumps(index))
    metrics = evaluate(rayzer, index=tmp_path / "index.json", batch_size=2, sweep=(1, 2, 9))
    assert {name: entry["target"] for name, entry in metrics["per_scene"].items()} == {
        name: entry["target"] for name, entry in index.items()
    }
    assert metrics["per_scene"][names[2]]["context"] == [5, 0, 2, 3]
    assert [(row["num_context"], row["scenes"]) for row in metrics["views_sweep"]] == [(1, 2), (2, 2)]
    notes = [problem for problem in metrics["scenes"]["problems"] if problem.startswith("views sweep")]
    assert len(notes) == 2


def test_the_whole_sweep_is_the_evaluation_itself(rayzer: Path, evaluate):
    metrics = evaluate(rayzer, sweep=SWEEP)
    full = metrics["views_sweep"][-1]
    assert full["num_context"] == 3
    for method in ("joint", "context_only", "nearest_context"):
        assert full[method]["psnr"] == pytest.approx(metrics["summary"][method]["psnr"]["mean"], abs=1e-4)
    assert full["joint"]["rra@15"] == pytest.approx(metrics["poses"]["joint"]["rra@15"]["mean"])


def test_a_model_that_is_given_poses(make_run, evaluate, tmp_path: Path):
    folder = make_run(LVSM)
    metrics = evaluate(folder)
    assert list(metrics["placements"]) == ["given_poses"]
    assert not metrics["placements"]["given_poses"]["uses_target_pixels"]
    assert (metrics["poses"], metrics["differences"]) == ({}, {})
    with pytest.raises(InputError, match=r"placement joint does not fit .*lvsm_decoder_only.*given_poses"):
        evaluate(folder, placements=("joint",))
    pictures = tmp_path / "clip"
    pictures.mkdir()
    for number in range(4):
        Image.fromarray(np.full((30, 40, 3), 60 * number, np.uint8)).save(pictures / f"{number}.png")
    with pytest.raises(InputError, match=r"needs camera poses, and 'images' has no cameras"):
        evaluate(folder, data=(pictures,), dataset="images")


def test_images_without_cameras_and_of_different_sizes(rayzer: Path, evaluate, tmp_path: Path):
    generator = np.random.default_rng(0)
    for number in range(6):
        pixels = generator.integers(0, 255, (30 + 4 * number, 40, 3), np.uint8)
        (tmp_path / "clip").mkdir(exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / f"clip/{number}.png")
    metrics = evaluate(rayzer, data=(tmp_path / "clip",), dataset="images")
    (scene,) = metrics["per_scene"].values()
    assert metrics["poses"] == {}
    assert scene["cameras"]["true"] is None
    assert scene["cameras"]["joint"]["aligned"] is False


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_size": (24, 30)}, r"--image_size: images of 24 x 30 pixels .* multiples of 8, e\.g\. 24 32"),
        ({"placements": ("given_poses",)}, "given_poses does not fit the model 'rayzer', which estimates"),
        ({"protocol": "re10k_2v3"}, "needs --index FILE: the published evaluation_index_re10k.json"),
        ({"protocol": "erayzer_dl3dv"}, "none of 3 test scenes can be evaluated: .* 6 frames, .* need 97"),
        ({"sweep": (4, 8)}, "--views 4 8: no scene has more than 3"),
        ({"metric_weights": {"lpips_vgg": "nowhere.pth"}}, "nowhere.pth does not exist; get https://download.pytorch.org"),
        ({"metric_weights": {"psnr": "nowhere.pth"}}, "the metric 'psnr' takes no weights"),
        ({"plugins": ("nowhere.py",)}, "--plugin: plugin 'nowhere.py' could not be loaded: FileNotFoundError"),
        ({"metrics": ("lpips_vgg",)}, "no metric can be computed: lpips_vgg: no weights: get https://"),
        ({"checkpoint": "step_00000007"}, "checkpoint 'step_00000007'"),
        ({"data": (Path("nowhere"),)}, "nowhere"),
        ({"index": Path("nowhere.json")}, "evaluation index nowhere.json cannot be used: there is no such file"),
        ({"overrides": ("model.width=64",)}, r"--set model.width=64: only data\.\* and evaluation\.\*"),
        ({"overrides": ("evaluation.max_scenes=1",)}, "max_scenes=1: take the option --max_scenes N instead"),
        ({"overrides": ("data.image_size[0]=16",)}, r"image_size\[0\]=16: take the option --image_size H W instead"),
        ({"transfer_oracle": "nowhere"}, "--transfer_oracle needs --transfer"),
        ({"transfer": True, "transfer_oracle": "nowhere"}, "nowhere"),
        ({"batch_size": 0}, "--batch_size must be 1 or more, got 0"),
    ],
)  # fmt: skip
def test_wrong_requests_are_refused_and_write_nothing(rayzer: Path, evaluate, tmp_path: Path, changes, message):
    with pytest.raises(InputError, match=message):
        evaluate(rayzer, **changes)
    assert list(tmp_path.iterdir()) == []


def test_another_image_size_is_a_note(rayzer: Path, evaluate):
    metrics = evaluate(rayzer, image_size=(16, 24), pictures=0)
    assert any("16 x 24; the model was trained on 24 x 32" in problem for problem in metrics["scenes"]["problems"])


def test_only_an_evaluation_is_replaced(rayzer: Path, evaluate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    output = tmp_path / "out"
    output.mkdir()
    (output / "metrics.json").write_text('{"step": 5, "split": "test"}')
    with pytest.raises(InputError, match="contains no evaluation"):
        evaluate(rayzer, pictures=0)
    shutil.rmtree(output)
    evaluate(rayzer, placements=("joint",))
    before = files(output)
    monkeypatch.setattr(
        evaluation, "write_evaluation", lambda *_, **__: (_ for _ in ()).throw(OSError(28, "No space left"))
    )
    with pytest.raises(InputError, match="No space left"):
        evaluate(rayzer, placements=("context_only",))
    assert files(output) == before
    monkeypatch.undo()
    evaluate(rayzer, placements=("context_only",), pictures=0)
    assert not (output / "pictures").exists()
    (output / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"contains notes\.txt, which no evaluation wrote"):
        evaluate(rayzer)
    assert (output / "notes.txt").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_an_interruption_leaves_the_evaluation_that_was_there(
    rayzer: Path, evaluate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    evaluate(rayzer, placements=("joint",), pictures=1)
    before, rename = files(tmp_path / "out"), Path.rename

    def interrupted(path: Path, target: Path) -> Path:
        if "unfinished" in path.name:  # between the two renames
            raise KeyboardInterrupt
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        evaluate(rayzer, placements=("context_only",), pictures=0)
    assert files(tmp_path / "out") == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_the_current_folder_is_not_replaced(rayzer: Path, evaluate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="is the current folder"):
        evaluate(rayzer, output=Path())
    assert list(tmp_path.iterdir()) == []


def test_maps_of_the_model_are_beside_the_renders_of_drawn_scenes(
    rayzer: Path, evaluate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    asked = []

    def render_maps(model: RayZer, scene: Scene, cameras: Cameras) -> dict[str, torch.Tensor]:
        asked.append((scene.batch_size, cameras.num_views))
        depth = torch.linspace(1, 2, scene.image_size[1]).expand(1, cameras.num_views, 1, *scene.image_size)
        return {"depth": depth, "normal map": depth.expand(-1, -1, 3, -1, -1) / 2}

    monkeypatch.setattr(RayZer, "render_maps", render_maps)
    monkeypatch.setattr(SyntheticRooms, "depths", lambda *_: None)
    metrics = evaluate(rayzer, batch_size=3, pictures=0)
    assert asked == []
    metrics = evaluate(rayzer, batch_size=3, placements=("joint",))
    assert metrics["depth"] == {}
    assert set(asked) == {(1, 1), (1, 2)}  # the trial of the memory of one view, and both targets of a scene
    pictures = next(iter(metrics["per_scene"].values()))["pictures"]
    assert list(pictures) == ["context", "target", "joint", "joint_error", "joint_depth", "joint_normal_map"]
    (first, *_) = pictures["joint_depth"].values()
    colours = np.asarray(Image.open(tmp_path / "out" / first)).astype(int)
    assert colours[0, 0].argmax() == 0  # near depth is red
    assert colours[0, -1].argmax() == 2  # and far depth is blue
    assert "joint_depth" in (tmp_path / "out/report.html").read_text()


def test_depth_maps_are_measured_where_the_data_has_true_depth(
    rayzer: Path, evaluate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    assert evaluate(rayzer, pictures=0)["depth"] == {}  # the model has no depth maps

    def render_maps(model: RayZer, scene: Scene, cameras: Cameras) -> dict[str, torch.Tensor]:
        return {"depth": torch.full((1, cameras.num_views, 1, *scene.image_size), 3.0)}

    monkeypatch.setattr(RayZer, "render_maps", render_maps)
    metrics = evaluate(rayzer, pictures=0)
    assert list(metrics["depth"]) == ["joint", "context_only", "plane"]
    joint = metrics["depth"]["joint"]
    assert joint == metrics["depth"]["context_only"]
    assert joint["depth_abs_rel"]["mean"] == pytest.approx(metrics["depth"]["plane"]["depth_abs_rel"]["mean"], rel=1e-5)
    assert (joint["depth_abs_rel"]["scenes"], joint["depth_abs_rel"]["not_finite"]) == (3, 0)
    assert 0.02 < joint["depth_abs_rel"]["mean"] < 0.6  # a plane in front of the camera is no room
    assert 0.2 < joint["depth_delta_1.25"]["mean"] < 0.95
    scenes = [scene["depth"]["joint"]["depth_abs_rel"] for scene in metrics["per_scene"].values()]
    assert sum(scenes) / 3 == pytest.approx(joint["depth_abs_rel"]["mean"])
    assert "Depth, AbsRel" in (tmp_path / "out/report.html").read_text()
    assert "depth_abs_rel" in result_table(metrics, tmp_path)


def test_paths_may_be_strings(rayzer: Path, evaluate, tmp_path: Path):
    names = list(evaluate(rayzer, pictures=0)["per_scene"])
    (tmp_path / "index.json").write_text(json.dumps({names[0]: {"context": [0, 5], "target": [2]}}))
    metrics = evaluate(rayzer, output=str(tmp_path / "texts"), index=str(tmp_path / "index.json"), pictures=0)
    assert list(metrics["per_scene"]) == names[:1]
    assert write_report(str(tmp_path / "texts")) == tmp_path / "texts/report.html"
