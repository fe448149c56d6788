"""The project's readers read exported cameras back, to 1e-6."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from openrayzer.data.sources.colmap import Colmap
from openrayzer.data.sources.dl3dv import Dl3dv
from openrayzer.geometry.poses import relative_to
from openrayzer.interfaces import InputError
from openrayzer.types import Cameras
from openrayzer.video.camera_files import export_cameras, read_cameras, write_cameras

NAMES = ("photo 2.jpg", "photo 10.jpg", "a_1.png", "ü.png")  # natural order is another
ORDER = [2, 0, 1, 3]


def export(path: Path, cameras: Cameras) -> torch.Tensor:
    """Return the exported images for the cameras of ``NAMES``."""
    images = torch.rand(1, len(NAMES), 3, 24, 40, generator=torch.Generator().manual_seed(0))
    export_cameras(path, cameras, names=NAMES, images=images)
    return images


def same(first: Cameras, second: Cameras) -> None:
    """Check that relative poses and intrinsics agree to 1e-6."""
    start = torch.zeros(1, dtype=torch.long)
    assert (relative_to(first.c2w.double(), start) - relative_to(second.c2w.double(), start)).abs().max() < 1e-6
    assert (first.intrinsics / second.intrinsics - 1).abs().max() < 1e-6


@pytest.mark.parametrize("form", ["colmap", "nerfstudio"])
def test_datasets_read_exported_cameras_back(tmp_path: Path, make_cameras, form: str):
    cameras = make_cameras(4)
    images = export(tmp_path / "out" / ("transforms.json" if form == "nerfstudio" else ""), cameras)
    dataset = Colmap(root=tmp_path / "out") if form == "colmap" else Dl3dv(root=tmp_path / "out")
    dataset.open()
    assert dataset.problems == ()
    frames = dataset.read(0, range(4))
    read = Cameras(torch.from_numpy(frames.c2w)[None], torch.from_numpy(frames.intrinsics)[None])
    same(read, cameras.select(torch.tensor([ORDER])))
    stored = np.stack(frames.images).transpose(0, 3, 1, 2) / 255
    assert np.abs(stored - images[0, ORDER].numpy()).max() < 0.51 / 255


def test_our_own_form_is_read_back_exactly(tmp_path: Path, make_cameras):
    cameras = make_cameras(4)
    export(tmp_path / "cameras.json", cameras)
    table = read_cameras(tmp_path / "cameras.json")
    assert torch.equal(table.cameras.c2w, cameras.c2w)
    assert torch.equal(table.cameras.intrinsics, cameras.intrinsics)
    assert (table.images, table.image_size) == (NAMES, (24, 40))
    content = json.loads((tmp_path / "cameras.json").read_text(encoding="utf-8"))
    fx, fy, cx, cy = cameras.intrinsics[0, 1].double().tolist()
    assert content["cameras"][1]["intrinsics_pixels"] == pytest.approx([40 * fx, 24 * fy, 40 * cx, 24 * cy])
    assert "OpenCV axes" in content["conventions"]["c2w"]


def test_a_path_is_stored_without_names(tmp_path: Path, make_cameras):
    write_cameras(tmp_path / "path.json", make_cameras(5), image_size=(8, 8))
    assert read_cameras(tmp_path / "path.json").images == (None,) * 5


def test_views_with_equal_intrinsics_share_one_camera_in_colmap(tmp_path: Path, make_cameras):
    cameras = make_cameras(4)
    export(tmp_path / "one", Cameras(cameras.c2w, cameras.intrinsics[:, :1].expand(-1, 4, -1)))
    lines = (tmp_path / "one/sparse/0/cameras.txt").read_text().splitlines()
    assert len([line for line in lines if not line.startswith("#")]) == 1
    assert (tmp_path / "one/sparse/0/points3D.txt").read_text().startswith("#")


def test_images_that_differ_only_in_their_suffix_get_different_names(tmp_path: Path, make_cameras):
    export_cameras(tmp_path / "out", make_cameras(2), names=("a.jpg", "a.png"), images=torch.rand(1, 2, 3, 8, 8))
    assert sorted(file.name for file in (tmp_path / "out/images").iterdir()) == ["a.jpg.png", "a.png.png"]


@pytest.mark.parametrize("name", ["filled", "filled/transforms.json"])
def test_a_filled_folder_is_refused(tmp_path: Path, make_cameras, name: str):
    (tmp_path / "filled/images").mkdir(parents=True)
    (tmp_path / "filled/images/old.png").write_text("old")
    with pytest.raises(InputError, match=r"--export_cameras .*filled.* exists and is not empty"):
        export(tmp_path / name, make_cameras(4))
    assert [file.name for file in tmp_path.rglob("*") if file.is_file()] == ["old.png"]


EYE = np.eye(4).tolist()
FINE = {"c2w": EYE, "intrinsics": [0.8, 1.1, 0.5, 0.5]}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "it is not JSON"),
        ([], "it holds a list"),
        ({}, 'it has no list "cameras"'),
        ({"cameras": []}, 'it has no list "cameras"'),
        ({"cameras": [FINE, 3]}, "camera 1: it is 3, not an object"),
        ({"cameras": [{"c2w": [[1]], "intrinsics": FINE["intrinsics"]}]}, r"camera 0: its pose has shape \(1, 1\)"),
        ({"cameras": [FINE | {"c2w": np.diag([1, 1, -1, 1]).tolist()}]}, "camera 0: .* mirror"),
        ({"cameras": [FINE | {"c2w": np.diag([2, 2, 2, 1]).tolist()}]}, "camera 0: .*rotation is off"),
        ({"cameras": [FINE | {"intrinsics": [1, 1]}]}, 'camera 0: its "intrinsics" are not four numbers'),
        ({"cameras": [FINE | {"intrinsics": ["a", 1, 1, 1]}]}, "camera 0"),
        ({"cameras": [FINE | {"intrinsics": [float("nan"), 1, 0.5, 0.5]}]}, "not finite"),
        ({"cameras": [FINE | {"intrinsics": [-1, 1, 0.5, 0.5]}]}, "not above 0"),
        ({"cameras": [FINE | {"image": "a"}, FINE, FINE | {"image": "a"}]}, "more than one camera for the image 'a'"),
        ({"cameras": [FINE], "image_size": [8]}, '"image_size"'),
    ],
)
def test_the_message_names_a_file_without_cameras(tmp_path: Path, content, said: str):
    (tmp_path / "c.json").write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(InputError, match=rf"c\.json: .*{said}"):
        read_cameras(tmp_path / "c.json")


def test_the_message_names_a_missing_file(tmp_path: Path):
    with pytest.raises(InputError, match=r"none\.json: there is no such file"):
        read_cameras(tmp_path / "none.json")
