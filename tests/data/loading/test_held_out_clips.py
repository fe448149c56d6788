"""Every usable test scene once over all ranks, the same views every time, and a reason for each that is missing."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from openrayzer.data.chunk_files.depth_maps import depth_png
from openrayzer.data.loading.held_out_clips import evaluation_views
from openrayzer.data.sampling.evaluation_index import EvaluationIndex
from openrayzer.data.sampling.view_samplers import Window
from openrayzer.data.sources.chunks import Chunks
from openrayzer.data.synthetic_rooms.scenes import FilmSettings, write_rooms
from openrayzer.geometry.rays import project, ray_directions
from openrayzer.interfaces import InputError
from openrayzer.settings import DataSettings, EvaluationSettings, Source

WINDOW = Window(num_context=2, num_target=2, min_frame_distance=3, max_frame_distance=6)


def data_settings(*roots, **more) -> DataSettings:
    sources = tuple(Source(dataset=Chunks(root=root, split="test")) for root in roots)
    return DataSettings(
        train=(Source(dataset=Chunks(root=Path("unused"))),), test=sources, view_sampler=WINDOW, image_size=(8, 8),
        **{"workers": 0, **more},
    )  # fmt: skip


def choices(clips) -> dict[str, list[int]]:
    return {scene: views.frames[i].tolist() for views in clips for i, scene in enumerate(views.scenes)}


@pytest.fixture
def ten(write_root, make_scene):
    return write_root([make_scene(f"s{i}") for i in range(10)], split="test")


@pytest.mark.parametrize(("world", "workers"), [(1, 0), (2, 0), (3, 0), (16, 0), (2, 1)])
def test_each_scene_is_on_one_rank(ten, world, workers):
    settings = EvaluationSettings(view_sampler=WINDOW, batch_size=3)
    ranks = [
        evaluation_views(data_settings(ten, workers=workers), settings, rank=rank, world_size=world)
        for rank in range(world)
    ]
    seen = Counter(scene for clips in ranks for views in clips for scene in views.scenes)
    assert seen == {f"s{i}": 1 for i in range(10)}
    assert max(map(len, ranks)) - min(map(len, ranks)) <= 1
    assert {(clips.expected, clips.planned) for clips in ranks} == {(10, 10)}


def test_views_depend_on_seed_and_name_only(ten, write_root, make_scene):
    first = choices(evaluation_views(data_settings(ten), EvaluationSettings(view_sampler=WINDOW)))
    other = write_root([make_scene("new"), make_scene("s7"), make_scene("s2")], split="test", name="other")
    mixed = choices(evaluation_views(data_settings(other), EvaluationSettings(view_sampler=WINDOW, batch_size=1)))
    assert {key: mixed[key] for key in ("s7", "s2")} == {key: first[key] for key in ("s7", "s2")}
    assert choices(evaluation_views(data_settings(ten), EvaluationSettings(view_sampler=WINDOW, seed=1))) != first


def test_passes_are_equal(ten):
    clips = evaluation_views(data_settings(ten), EvaluationSettings(view_sampler=WINDOW))
    assert choices(clips) == choices(clips)


def test_only_the_first_scenes_if_so_wished(ten):
    clips = evaluation_views(data_settings(ten), EvaluationSettings(view_sampler=WINDOW, max_scenes=3))
    assert list(choices(clips)) == ["s0", "s1", "s2"]
    assert clips.expected == 3


def test_broken_scenes_are_skipped_with_a_reason_and_never_replaced(write_root, make_scene):
    broken = replace(make_scene("broken"), images=[b"nothing"] * 8)
    root = write_root([make_scene("a"), broken, make_scene("short", frames=2), make_scene("b")], split="test")
    clips = evaluation_views(data_settings(root), EvaluationSettings(view_sampler=WINDOW, batch_size=1))
    for _ in range(2):
        assert list(choices(clips)) == ["a", "b"]
    assert (clips.expected, clips.planned) == (4, 3)
    assert [skipped.scene for skipped in clips.skipped] == ["short", "broken"]
    assert "'short' has 2 frames" in clips.skipped[0].reason
    assert "it is neither JPEG nor PNG" in clips.skipped[1].reason


def test_scene_of_two_sources_counts_once(ten, write_root, make_scene):
    other = write_root([make_scene("s3"), make_scene("x")], split="test", name="other")
    clips = evaluation_views(data_settings(ten, other), EvaluationSettings(view_sampler=WINDOW))
    assert len(choices(clips)) == 11
    assert [skipped.reason for skipped in clips.skipped] == ["scene 's3' is in two test sources; the first is used"]


def write(path, entries):
    path.write_text(json.dumps(entries), encoding="utf-8")
    return EvaluationSettings(view_sampler=EvaluationIndex(path=path), batch_size=8)


def test_index_is_followed_and_given_back(ten, tmp_path):
    entries = {
        "s1": {"context": [0, 7], "target": [1, 2, 3]},
        "s2": {"context": [0, 7], "target": [0, 2, 3]},
        "s4": None,
        "s5": {"context": [0, 70], "target": [1, 2, 3]},
        "gone": {"context": [0, 7], "target": [1, 2, 3]},
        "s3": {"context": [1, 6], "target": [2, 3, 4]},
    }
    clips = evaluation_views(data_settings(ten), write(tmp_path / "index.json", entries))
    assert [views.scenes for views in clips] == [("s1", "s3"), ("s2",)]  # a shared frame makes one view fewer
    reasons = {skipped.scene: skipped.reason for skipped in clips.skipped}
    assert "is null" in reasons["s4"]
    assert "has 8 frames" in reasons["s5"]
    assert "is in no test source" in reasons["gone"]
    assert "is not in" in reasons["s0"]
    assert clips.expected == 11
    expected = {key: entries[key] if key in ("s1", "s2", "s3") else None for key in [*reasons, "s1", "s2", "s3"]}
    assert clips.index() == expected
    again = evaluation_views(data_settings(ten), write(tmp_path / "again.json", clips.index()))
    assert choices(again) == choices(clips)


def test_depth_is_there_only_if_it_is_asked_for_and_unknown_in_scenes_without(write_root, make_scene):
    depth = [depth_png(np.full((24, 32), frame + 1, np.float32)) for frame in range(8)]
    root = write_root([make_scene("flat"), replace(make_scene("deep"), depths=depth)], split="test")
    settings = EvaluationSettings(view_sampler=WINDOW, batch_size=2)
    assert [views.depth for views in evaluation_views(data_settings(root), settings)] == [None]
    (views,) = evaluation_views(data_settings(root, workers=1), settings, with_depth=True)
    assert views.depth.shape == (*views.frames.shape, 8, 8)
    assert views.scenes == ("flat", "deep")
    assert (views.depth[0] == 0).all()
    ratio = views.depth[1] / (views.frames[1, :, None, None] + 1)
    torch.testing.assert_close(ratio, ratio[:1, :1, :1].expand_as(ratio))  # normalised poses have another unit
    flat = write_root([make_scene("flat")], split="test", name="flat")
    (views,) = evaluation_views(data_settings(flat), settings, with_depth=True)
    assert views.depth is None


def test_depth_and_cameras_of_a_batch_agree(tmp_path):
    settings = FilmSettings(1, 3, 10, (48, 64), 1.0, 0, exposure=0.0)
    write_rooms(tmp_path, settings, processes=1)
    (views,) = evaluation_views(
        replace(data_settings(tmp_path), image_size=(40, 40)), EvaluationSettings(view_sampler=WINDOW), with_depth=True
    )
    rays = ray_directions(views.cameras, (40, 40))
    axis = views.cameras.c2w[..., :3, 2, None, None]
    along = views.depth[:, :, None] / (rays * axis).sum(dim=2, keepdim=True)
    points = (views.cameras.c2w[..., :3, 3, None, None] + along * rays)[:, 0].flatten(2).mT  # of the first view
    last = views.cameras.select(torch.full((3, 1), views.frames.shape[1] - 1))
    at = project(points[:, None], last)[:, 0]
    depth = ((points - last.c2w[:, 0, None, :3, 3]) * last.c2w[:, 0, None, :3, 2]).sum(-1)
    inside = (depth > 0) & ((at > 0) & (at < 1)).all(-1)
    column, row = (at * 40).long().clamp(0, 39).unbind(-1)
    seen = views.depth[:, -1][torch.arange(3)[:, None], row, column]
    for scene in range(3):
        error = (seen / depth - 1).abs()[scene, inside[scene]]
        assert inside[scene].float().mean() > 0.3
        assert error.median() < 0.02


def test_no_usable_scene_is_an_error_with_reasons(ten, tmp_path):
    settings = write(tmp_path / "index.json", {f"s{i}": None for i in range(10)})
    with pytest.raises(InputError, match=r"none of 10 test scenes can be evaluated: scene 's0' is null in"):
        evaluation_views(data_settings(ten), settings)


def test_no_test_source_is_no_error():
    clips = evaluation_views(data_settings(), EvaluationSettings(view_sampler=WINDOW))
    assert list(clips) == []
    assert clips.expected == 0


BAD_INDICES = {
    "out_of_range": "frame(s) 9999",
    "unknown_key": "'no_such_scene' of",
    "negative": "'context' holds -3",
    "all_null": "none of 5 test scenes can be evaluated",
    "target_missing": "'mydesk_003': 'target' must be a list",
    "not_json": "it is not JSON",
}


@pytest.mark.parametrize("case", BAD_INDICES)
def test_published_bad_indices_are_named(shared_data, case):
    said = ""
    try:
        sampler = EvaluationIndex(path=shared_data / "bad" / "evaluation_index" / f"{case}.json")
        clips = evaluation_views(data_settings(shared_data / "re10k_style"), EvaluationSettings(view_sampler=sampler))
        said = " ".join(skipped.reason for skipped in clips.skipped)
        assert {"apple_co3d", "box_rgbd", "beer_can"} <= set(choices(clips))
    except InputError as error:
        said = str(error)
    assert BAD_INDICES[case] in said
