"""prepare_data.py stats: numbers computed from the cameras, and pictures."""

import json
import sys

import cv2
import numpy as np
import pytest

from openrayzer.data.preparing.statistics import gather, summary
from openrayzer.data.sources.chunks import Chunks


def opened(root, **settings) -> Chunks:
    dataset = Chunks(root=root, **settings)
    dataset.open()
    return dataset


def test_numbers_follow_from_the_cameras(write_root, make_scene):
    dataset = opened(write_root([make_scene("a", frames=40), make_scene("b", frames=4)]))
    scenes, lengths, problems = gather(dataset, sample=10, processes=1)
    assert (lengths, problems) == ([40, 4], [])
    np.testing.assert_allclose(
        scenes[0].fov, np.degrees([2 * np.arctan(0.5 / 0.8), 2 * np.arctan(0.5 / 1.1)]), rtol=1e-5
    )
    np.testing.assert_allclose([scenes[0].span, scenes[0].step, scenes[0].turn], [[39], [1], [0]], rtol=1e-4, atol=1e-4)
    numbers = summary(scenes, lengths)
    assert numbers["sizes"] == {"32 x 24": 2}
    assert numbers["least_median_largest"]["frames"] == [4, 22, 40]


def test_sources_without_cameras_and_broken_frames_are_taken(write_root, make_scene):
    scene, lost = make_scene("a", frames=6), make_scene("lost", frames=2)
    scene.images[0] = b""
    lost.images[:] = [b"", b""]
    scenes, _, problems = gather(opened(write_root([scene, lost]), posed=False), sample=10, processes=2)
    assert [scene.key for scene in scenes] == ["a"]
    assert scenes[0].fov == ()
    assert "scene 'lost', frame 1: it has no bytes" in problems[0]


def test_tool_draws(prepare, write_root, make_scene, tmp_path):
    root = write_root([make_scene(name) for name in "abc"])
    assert prepare("stats", "--from", "chunks", root, "--output", tmp_path / "stats").returncode == 0
    assert json.loads((tmp_path / "stats" / "statistics.json").read_text())["num_frames"] == 24
    for name in ("histograms.png", "contact_sheet.png"):
        image = cv2.imread(str(tmp_path / "stats" / name))
        assert image.shape[1] > 300
        assert image.std() > 10


def test_missing_matplotlib_is_reported(prepare, write_root, make_scene, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    done = prepare("stats", "--from", "chunks", write_root([make_scene("a")]), "--output", tmp_path / "stats")
    assert done.returncode == 2
    assert "pip install 'openrayzer[plots]'" in done.stderr


@pytest.mark.parametrize("option", ["--sample", "--shown"])
def test_wrong_numbers_are_named(prepare, tmp_path, option):
    done = prepare("stats", "--from", "chunks", tmp_path, "--output", tmp_path / "stats", option, 0)
    assert done.returncode == 2
    assert "must be 1 or more" in done.stderr


def test_sample_beyond_the_number_of_scenes_is_all_of_them(write_root, make_scene):
    dataset = opened(write_root([make_scene("a"), make_scene("b"), make_scene("c")]))
    scenes, _, _ = gather(dataset, sample=2_000_000_000_000, processes=1)
    assert [scene.key for scene in scenes] == ["a", "b", "c"]
