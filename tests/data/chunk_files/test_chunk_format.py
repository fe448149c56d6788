"""torch reads the written chunks, and no incomplete file is left."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from openrayzer.data.chunk_files.format import ChunkScene, cameras_to_rows, rows_to_cameras, write_chunk, write_index
from openrayzer.interfaces import InputError


def test_torch_reads_what_is_written(tmp_path, make_scene):
    scene = make_scene("a", frames=3)
    write_chunk(tmp_path / "train" / "000000.torch", [scene])
    (stored,) = torch.load(tmp_path / "train" / "000000.torch", weights_only=True)
    assert list(stored) == ["url", "timestamps", "cameras", "images", "key"]
    assert stored["cameras"].dtype == torch.float32
    assert stored["timestamps"].dtype == torch.int64
    assert [image.numpy().tobytes() for image in stored["images"]] == scene.images
    assert [path.name for path in (tmp_path / "train").iterdir()] == ["000000.torch"]


def test_each_image_is_stored_once(tmp_path):
    image = bytes(1000)
    scene = ChunkScene("a", np.zeros((50, 18), np.float32), [image] * 50, np.arange(50))
    write_chunk(tmp_path / "a.torch", [scene])
    assert (tmp_path / "a.torch").stat().st_size < 50 * 1400


def test_cameras_survive_the_round_trip(make_cameras):
    rows = make_cameras(6)
    c2w, intrinsics = rows_to_cameras(rows)
    np.testing.assert_allclose(c2w[:, 0, 3], np.arange(6), atol=1e-5)
    np.testing.assert_allclose(intrinsics, np.tile([0.8, 1.1, 0.5, 0.5], (6, 1)), rtol=1e-6)
    np.testing.assert_allclose(cameras_to_rows(c2w, intrinsics), rows, atol=1e-5)


def test_mismatched_scene_is_named(tmp_path, make_cameras):
    scene = ChunkScene("living room", make_cameras(2), [b"x"] * 3, np.arange(3))
    with pytest.raises(InputError, match=r"'living room': 3 images need cameras \(3, 18\).*got \(2, 18\)"):
        write_chunk(tmp_path / "a.torch", [scene])
    assert not list(tmp_path.iterdir())


def test_failed_write_leaves_the_old_file(tmp_path, make_scene, monkeypatch):
    path = tmp_path / "a.torch"
    write_chunk(path, [make_scene("old")])
    before = path.read_bytes()

    def fail(temporary, content):
        temporary.write_text("half")
        raise OSError("disk full")

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(OSError, match="disk full"):
        write_chunk(path, [make_scene("new")])
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["a.torch"]


def test_index_keeps_any_key(tmp_path):
    write_index(tmp_path, {"場景 1": "000000.torch"})
    assert json.loads((tmp_path / "index.json").read_text(encoding="utf-8")) == {"場景 1": "000000.torch"}
