"""Depth maps in chunks: they survive the round trip, and only readers that ask for them see them."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from openrayzer.data.chunk_files.depth_maps import depth_png, read_depth
from openrayzer.data.chunk_files.format import write_chunk
from openrayzer.data.chunk_files.side_index import FRAME_INDEX_NAME
from openrayzer.data.pixels.decoding import ImageError
from openrayzer.data.preparing.indexing import index_chunks
from openrayzer.data.preparing.recoding import Recoding, recode_scene
from openrayzer.data.preparing.verifying import verify
from openrayzer.data.preparing.whole_scenes import SceneLength
from openrayzer.data.sources import chunks as chunk_source
from openrayzer.data.sources.chunks import Chunks
from openrayzer.interfaces import BrokenSceneError, InputError


def plane(frame: int, size: tuple[int, int] = (24, 32)) -> np.ndarray:
    """A depth map (h, w) whose columns get further away; frame i begins at i + 1."""
    return np.tile(np.linspace(frame + 1, frame + 2, size[1], dtype=np.float32), (size[0], 1))


def opened(root, **settings) -> Chunks:
    dataset = Chunks(root=root, **settings)
    dataset.open()
    return dataset


@pytest.fixture
def deep_scene(make_scene):
    """A scene of three frames with depth."""
    return replace(make_scene("deep", frames=3), depths=[depth_png(plane(frame)) for frame in range(3)])


def test_depth_survives_to_a_thousandth_and_unknown_depth_becomes_zero():
    depth = np.array([[0.1234, 65.5349, 1.0], [np.inf, np.nan, -1.0], [66.0, 0.0, 2.0]], np.float32)
    expected = np.array([[0.123, 65.535, 1.0], [0, 0, 0], [0, 0, 2.0]], np.float32)
    np.testing.assert_allclose(read_depth(depth_png(depth)), expected, atol=1e-5)


def test_a_file_that_is_no_depth_map_is_refused(make_picture):
    with pytest.raises(ImageError, match="16-bit grey PNG"):
        read_depth(make_picture(3))
    with pytest.raises(ImageError, match="cut short"):
        read_depth(depth_png(plane(0))[:-20])
    huge = bytearray(depth_png(plane(0)))
    huge[16:24] = b"\x00\x01\x00\x00" * 2
    with pytest.raises(ImageError, match="65536 x 65536 pixels, more than"):
        read_depth(bytes(huge))


def test_chunks_read_depth_with_and_without_a_side_index(write_root, make_scene, deep_scene):
    root = write_root([make_scene("flat"), deep_scene])
    for _ in range(2):
        dataset = opened(root)
        assert dataset.problems == ()
        assert dataset.depths(0, [0, 1]) is None
        for read, frame in zip(dataset.depths(1, [2, 0]), (2, 0), strict=True):
            np.testing.assert_allclose(read, plane(frame), atol=6e-4)
        index_chunks(root / "train", root / "train" / FRAME_INDEX_NAME, processes=1)
    assert dataset.read(1, [2]).images[0].shape == (24, 32, 3)


def test_reading_frames_decodes_no_depth(write_root, deep_scene, monkeypatch):
    dataset = opened(write_root([deep_scene]))
    monkeypatch.setattr(chunk_source, "read_depth", lambda _: pytest.fail("decoded"))
    dataset.read(0, [0, 1, 2])


def test_a_scene_with_another_number_of_depth_maps_is_not_written(tmp_path, deep_scene):
    with pytest.raises(InputError, match="3 images need 3 depth maps, got 2"):
        write_chunk(tmp_path / "a.torch", [replace(deep_scene, depths=deep_scene.depths[:2])])


def test_a_damaged_depth_map_is_named_and_leaves_the_images_usable(write_root, deep_scene):
    deep_scene.depths[1] = b"no depth"
    dataset = opened(write_root([deep_scene]))
    with pytest.raises(BrokenSceneError, match="'deep', depth of frame 1: it is neither JPEG"):
        dataset.depths(0, [0, 1])
    assert len(dataset.read(0, [0, 1, 2]).images) == 3


def test_verify_reports_damaged_depth_and_depth_of_another_size(write_root, deep_scene, make_scene):
    deep_scene.depths[1] = b"no depth"
    deep_scene.depths[2] = depth_png(plane(2, size=(12, 16)))
    report = verify(opened(write_root([deep_scene, make_scene("flat")])), processes=1)
    assert sorted(report.scenes[0].depths) == [1, 2]
    assert "its depth map has 16 x 12 pixels, its image 32 x 24" in report.scenes[0].depths[2]
    assert any("2 of 3 depth map(s) cannot be used" in problem for problem in report.problems)
    assert report.scenes[1].problems == []
    assert report.num_usable == 11


def test_conversion_keeps_depth_at_the_size_of_the_images(write_root, make_scene, deep_scene):
    deep_scene.images[2] = b"no image"
    dataset = opened(write_root([deep_scene, make_scene("flat")]))
    recoding = Recoding(short_side=12, quality=90)
    scene = recode_scene(dataset, SceneLength(0, "deep", 3), recoding).scene
    small = read_depth(scene.depths[1])
    assert small.shape == cv2.imdecode(np.frombuffer(scene.images[1], np.uint8), 1).shape[:2] == (12, 16)
    np.testing.assert_allclose(small, plane(1)[1::2, 1::2], atol=6e-4)
    assert scene.depths[2] == b""
    assert recode_scene(dataset, SceneLength(1, "flat", 8), recoding).scene.depths is None
