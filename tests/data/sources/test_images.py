"""Folders of images are scenes without cameras; their frames keep their order and their numbers."""

import struct
from pathlib import Path

import cv2
import numpy as np
import pytest

from openrayzer.data.sources.images import Images
from openrayzer.interfaces import BrokenSceneError, InputError


def opened(root: Path, **settings) -> Images:
    dataset = Images(root=root, **settings)
    dataset.open()
    return dataset


def keys(dataset: Images) -> list[str]:
    return [dataset.key(scene) for scene in range(len(dataset))]


def write(path: Path, red: int, *, size: tuple[int, int] = (24, 32)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((*size, 3), (7, 255 - red, red), np.uint8))


def test_frames_are_in_natural_order_and_without_cameras(tmp_path):
    for frame in (10, 9, 2, 100):
        write(tmp_path / f"view{frame}.png", frame)
    dataset = opened(tmp_path)
    assert keys(dataset) == [tmp_path.name]
    assert dataset.num_frames(0) == 4
    frames = dataset.read(0, range(4))
    assert [int(image[0, 0, 0]) for image in frames.images] == [2, 9, 10, 100]
    assert (frames.c2w, frames.intrinsics, dataset.posed) == (None, None, False)


def test_each_folder_with_images_is_a_scene_and_its_subfolders_are_not(tmp_path):
    for name in ("b/10/x.png", "b/9/x.JPG", "a/x.webp", "a/thumbnails/x.png", "b/9/.hidden.png", "c/notes.txt"):
        write(tmp_path / name, 1) if not name.endswith("txt") else (tmp_path / "c").mkdir()
    dataset = opened(tmp_path)
    assert keys(dataset) == ["a", "b/9", "b/10"]
    assert [dataset.num_frames(scene) for scene in range(3)] == [1, 1, 1]


def test_a_list_chooses_scenes(tmp_path):
    for name in ("a", "b", "c"):
        write(tmp_path / "root" / name / "x.png", 1)
    (tmp_path / "list.txt").write_text("# mine\nc\n\na\nc\ngone\n")
    dataset = opened(tmp_path / "root", scenes=tmp_path / "list.txt")
    assert keys(dataset) == ["a", "c"]
    assert "list.txt, line 6: there is no scene 'gone'" in dataset.problems[0]
    with pytest.raises(InputError, match=r"no\.txt: there is no such file"):
        opened(tmp_path / "root", scenes=tmp_path / "no.txt")


RAMP = np.arange(20 * 30 * 3, dtype=np.uint16).reshape(20, 30, 3).astype(np.uint8)


@pytest.mark.parametrize("form", [".png", ".jpg", ".webp"])
@pytest.mark.parametrize(
    "stored",
    [RAMP[:, :, 0], RAMP, np.dstack([RAMP, RAMP[:, :, :1]]), RAMP.astype(np.uint16) * 257],
    ids=["grey", "colour", "transparent", "16 bit"],
)
def test_every_kind_becomes_rgb(tmp_path, stored, form):
    if form != ".png" and (stored.dtype == np.uint16 or (form == ".jpg" and stored.shape[2:] == (4,))):
        stored = stored[..., :3].astype(np.uint8)
    (tmp_path / f"x{form}").write_bytes(cv2.imencode(form, stored, [cv2.IMWRITE_WEBP_QUALITY, 101])[1].tobytes())
    image = opened(tmp_path).read(0, [0]).images[0]
    assert image.shape == (20, 30, 3)
    assert image.dtype == np.uint8


def test_stored_rotation_is_applied(tmp_path):
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"  # orientation 6: turn right
    stored = np.zeros((24, 32, 3), np.uint8)
    stored[:, :16] = 255
    data = cv2.imencode(".jpg", stored)[1].tobytes()
    (tmp_path / "x.jpg").write_bytes(data[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + data[2:])
    image = opened(tmp_path).read(0, [0]).images[0]
    assert image.shape == (32, 24, 3)
    assert image[:12].min() > 200  # left went up
    assert image[20:].max() < 50


def test_sizes_may_differ_within_a_scene(tmp_path):
    write(tmp_path / "1.png", 1)
    write(tmp_path / "2.png", 2, size=(40, 20))
    assert [image.shape[:2] for image in opened(tmp_path).read(0, [1, 0]).images] == [(40, 20), (24, 32)]


@pytest.mark.parametrize("kind", ["empty", "text", "cut", "huge"])
def test_a_broken_image_is_missing_and_shifts_nothing(tmp_path, kind):
    for frame in range(4):
        write(tmp_path / f"{frame}.png", frame)
    whole = (tmp_path / "1.png").read_bytes()
    huge = whole[:16] + struct.pack(">II", 60000, 60000) + whole[24:]
    content = {"empty": b"", "text": b"no image", "cut": whole[:-20], "huge": huge}
    (tmp_path / "1.png").write_bytes(content[kind])
    dataset = opened(tmp_path)
    assert dataset.num_frames(0) == 4
    assert [int(image[0, 0, 0]) for image in dataset.read(0, [0, 2, 3]).images] == [0, 2, 3]
    with pytest.raises(BrokenSceneError, match=rf"scene '{tmp_path.name}', frame 1: 1\.png: (it|the PNG)"):
        dataset.read(0, [0, 1])


def test_an_image_of_a_kind_that_is_not_read_is_a_missing_frame(tmp_path):
    for frame in range(3):
        write(tmp_path / f"{frame}.png", frame)
    (tmp_path / "1.png").rename(tmp_path / "1.dng")
    dataset = opened(tmp_path)
    assert dataset.num_frames(0) == 3
    assert "1 frame(s) marked missing, the first is frame 1: 1.dng: images of this type" in dataset.problems[0]


def test_a_folder_without_images_is_refused(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    with pytest.raises(
        InputError, match=r"no images in .* looked for \.avif, \.bmp, \.heic, \.heif, \.jpeg, \.jpg, \.png, "
    ):
        opened(tmp_path)


def test_a_folder_whose_name_cannot_be_printed_is_left_out(tmp_path):
    write(tmp_path / "a" / "x.png", 1)
    write(tmp_path / "b\nc" / "x.png", 1)
    dataset = opened(tmp_path)
    assert keys(dataset) == ["a"]
    assert "its name is not printable" in dataset.problems[0]


def test_many_scenes_are_opened_without_a_look_at_their_images(tmp_path, monkeypatch):
    for scene in range(50):
        (tmp_path / str(scene)).mkdir()
        (tmp_path / str(scene) / "x.png").touch()
    monkeypatch.setattr("openrayzer.data.sources.image_scenes.read_plain_files", None)
    dataset = opened(tmp_path, scan_limit=10)
    assert len(dataset) == 50
    assert dataset.num_frames(49) == 1
    for scene in range(50):
        dataset.table(scene)
    assert len(dataset._tables) <= 16


def test_real_folders(shared_data):
    dataset = opened(shared_data / "unposed")
    assert "kitchen_mip360" in keys(dataset)
    scene = keys(dataset).index("kitchen_mip360")
    assert dataset.num_frames(scene) == 25
    assert len({image.shape for image in dataset.read(scene, [0, 24]).images}) == 1
