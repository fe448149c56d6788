"""Views are evenly chosen from folders and videos, resized and cropped, and get the right cameras."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from openrayzer.interfaces import InputError
from openrayzer.video.camera_files import export_cameras, nerfstudio_table, write_cameras
from openrayzer.video.mp4 import Mp4Writer
from openrayzer.video.views import InputViews, read_scene_views, read_views

SIZE = (16, 16)


def read(source: Path, **settings) -> InputViews:
    """Read views of 16 x 16 pixels, by default at most 4."""
    return read_views(source, **({"image_size": SIZE, "num_views": None, "most": 4} | settings))


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """Return a video of 9 frames; frame i is grey with value 25 * i."""
    pytest.importorskip("av")
    with Mp4Writer(tmp_path / "clip.mp4", fps=10.0, quality="best") as video:
        for number in range(9):
            video.add(np.full((32, 48, 3), 25 * number, np.uint8))
    return tmp_path / "clip.mp4"


@pytest.mark.parametrize(
    ("settings", "frames"),
    [
        ({"most": 3}, (0, 2, 5)),
        ({"most": 99}, (0, 1, 2, 3, 4, 5)),
        ({"num_views": 2}, (0, 5)),
        ({"num_views": 1}, (0,)),
        ({"num_views": 6}, (0, 1, 2, 3, 4, 5)),
        ({"num_views": 2, "window": (1, 3)}, (1, 3)),
    ],
)
def test_views_are_evenly_chosen(photos: Path, settings: dict, frames: tuple[int, ...]):
    views = read(photos, **settings)
    assert views.frames == frames
    assert views.names == tuple(f"photo_{frame}.png" for frame in frames)
    assert views.images.shape == (1, len(frames), 3, *SIZE)
    assert torch.allclose(views.images[0, :, 0, 8, 8] * 255, 40.0 * torch.tensor(frames))


def test_a_note_says_that_not_all_images_are_used(photos: Path):
    assert read(photos).notes == ("4 of 6 images are used; use --num_views for more",)
    assert read(photos, num_views=4).notes == read(photos, most=6).notes == ()


def test_frames_of_a_video_become_views(clip: Path):
    views = read(clip, num_views=3)
    assert views.frames == (0, 4, 8)
    assert views.names[1] == "frame_000004.png"
    assert (views.images[0, :, :, 8, 8] * 255 - torch.tensor([[0.0], [100.0], [200.0]])).abs().max() < 4


def test_images_of_different_sizes_are_cropped_each_with_a_note(photos: Path, make_image):
    make_image(photos / "photo_0.png", 0, size=(40, 20))
    views = read(photos, num_views=6)
    assert views.images.shape == (1, 6, 3, *SIZE)
    assert "2 different sizes (photo_0.png 20 x 40, photo_1.png 32 x 24)" in views.notes[0]
    assert "cropped at its centre" in views.notes[0]


def test_a_broken_image_is_left_out_and_named(photos: Path):
    (photos / "photo_3.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (photos / "photo_9.dng").write_bytes(b"")
    views = read(photos, num_views=6)
    assert views.frames == (0, 1, 2, 4, 5)
    assert any("photo_3.png" in note and "left out" in note for note in views.notes)
    assert any("photo_9.dng" in note for note in views.notes)


def spoil(photos: Path, clip: Path, make_image) -> None:
    """Write unusable inputs beside the usable ones."""
    (photos.parent / "empty").mkdir()
    (photos.parent / "text").mkdir()
    (photos.parent / "text/readme.txt").write_text("no image")
    (photos.parent / "broken").mkdir()
    (photos.parent / "broken/a.jpg").write_bytes(b"none")
    (photos.parent / "cut.mp4").write_bytes(clip.read_bytes()[:200])
    (photos.parent / "text.mp4").write_text("no video")
    make_image(photos.parent / "two/a/1.png", 1)
    make_image(photos.parent / "two/b/1.png", 1)


@pytest.mark.parametrize(
    ("source", "settings", "said"),
    [
        ("nowhere", {}, "there is no folder .*nowhere"),
        ("empty", {}, "no images in .*empty"),
        ("text", {}, "no images in .*text"),
        ("broken", {}, r"no image can be read; .*a\.jpg"),
        ("cut.mp4", {}, r"cut\.mp4.*it has no frames"),
        ("text.mp4", {}, r"text\.mp4.*cannot be opened"),
        ("photos/photo_1.png", {}, r"photo_1\.png is not a video.* for images, give their folder"),
        ("two", {}, r"two holds 2 scenes \(a, b"),
        ("photos", {"num_views": 7}, "photos: 7 views are requested, but there are only 6 images"),
        ("photos", {"num_views": 0}, "--num_views must be 1 or more"),
        ("photos", {"window": (7, 9)}, "photos, frames 7 to 9: there is no usable image"),
        ("photos", {"cameras": "none.json"}, r"there is no .*none\.json"),
        ("photos", {"cameras": "photos"}, "photos has neither transforms.json nor a COLMAP model"),
    ],
)
def test_unusable_input_is_explained(photos: Path, clip: Path, make_image, source: str, settings: dict, said: str):
    spoil(photos, clip, make_image)
    if "cameras" in settings:
        settings = settings | {"cameras": photos.parent / settings["cameras"]}
    with pytest.raises(InputError, match=said):
        read(photos.parent / source, **settings)


def test_cameras_in_our_own_form_are_matched_by_file_name(photos: Path, tmp_path: Path, make_cameras):
    cameras = make_cameras(6)
    order = [5, 3, 1, 0, 2, 4]
    names = [f"photo_{place}.png" for place in order]
    write_cameras(tmp_path / "c.json", cameras.select(torch.tensor([order])), image_size=(8, 8), names=names)
    views = read(photos, num_views=3, cameras=tmp_path / "c.json")
    assert views.known is not None
    assert torch.equal(views.known.c2w, cameras.c2w[:, [0, 2, 5]])
    assert torch.equal(views.known.intrinsics, cameras.intrinsics[:, [0, 2, 5]])


def test_images_of_the_same_name_in_several_folders_get_different_names(tmp_path: Path, make_cameras, make_image):
    files = ["left/0.png", "left/1.png", "right/0.png", "right/1.png"]
    for place, file in enumerate(files):
        make_image(tmp_path / "rig" / file, 60 * place)
    table = nerfstudio_table(make_cameras(4), (24, 32), files)
    (tmp_path / "rig/transforms.json").write_text(json.dumps(table))
    views = read(tmp_path / "rig", num_views=4, cameras=tmp_path / "rig/transforms.json")
    assert views.known is not None
    assert views.names == ("left_0.png", "left_1.png", "right_0.png", "right_1.png")
    export_cameras(tmp_path / "out", views.known, names=views.names, images=views.images)
    again = read(tmp_path / "out", num_views=4, cameras=tmp_path / "out")
    assert again.names == views.names
    assert torch.allclose(again.images, views.images, atol=1 / 255)


def test_cameras_of_other_images_are_refused(photos: Path, tmp_path: Path, make_cameras):
    write_cameras(tmp_path / "few.json", make_cameras(1), image_size=(8, 8), names=["photo_0.png"])
    with pytest.raises(InputError, match=r"no camera for 3 of 4 views \(photo_2\.png, "):
        read(photos, cameras=tmp_path / "few.json")
    names = [f"photo_{place}.png" for place in range(6)]
    write_cameras(tmp_path / "wide.json", make_cameras(6), image_size=(8, 16), names=names)
    with pytest.raises(InputError, match=r"cameras for images of 16 x 8 pixels, .*another aspect ratio"):
        read(photos, cameras=tmp_path / "wide.json")


@pytest.mark.parametrize("form", ["colmap", "nerfstudio"])
def test_a_scene_with_cameras_provides_its_images(tmp_path: Path, make_cameras, form: str):
    """Square crops of wide images: the focal length in x grows as the width shrinks."""
    cameras, images = make_cameras(5), torch.rand(1, 5, 3, 24, 48)
    folder = tmp_path / "scene"
    place = folder / "transforms.json" if form == "nerfstudio" else folder
    export_cameras(place, cameras, names=[f"{view}.png" for view in range(5)], images=images)
    views = read(folder / "images", num_views=3, cameras=place)
    assert views.names == ("0.png", "2.png", "4.png")
    assert views.known is not None
    assert torch.allclose(views.known.c2w, cameras.c2w[:, [0, 2, 4]], atol=1e-5)
    fx, fy, cx, cy = cameras.intrinsics[:, [0, 2, 4]].unbind(-1)
    assert torch.allclose(views.known.intrinsics, torch.stack([2 * fx, fy, 2 * cx - 0.5, cy], -1), atol=1e-5)
    shutil.copytree(folder / "images", tmp_path / "some")
    (tmp_path / "some/4.png").unlink()
    assert read(tmp_path / "some", num_views=4, cameras=place).names == ("0.png", "1.png", "2.png", "3.png")
    with pytest.raises(InputError, match="holds no image that has a camera; 5 images have cameras"):
        read(tmp_path, num_views=4, cameras=place)


def test_views_of_real_clips(shared_data: Path):
    for name in ("kitchen_mip360", "monstree", "dl3dv_000053_5views"):
        views = read(shared_data / "unposed" / name, image_size=(32, 48), num_views=3)
        assert views.images.shape == (1, 3, 3, 32, 48)
        assert views.images.std() > 0.05
    pytest.importorskip("av")
    assert len(read(shared_data / "unposed/ramen_1fps.mp4", num_views=5).frames) == 5


def test_views_of_a_held_out_scene_have_its_cameras_if_the_model_needs_them(stored: Path, make_cameras):
    settings = {"image_size": (24, 32), "num_views": 3, "most": 4}
    views = read_scene_views(stored, scene="attic", posed=True, **settings)
    assert (views.frames, views.names[1], views.notes) == ((0, 2, 4), "frame_000002.png", ())
    assert torch.allclose(views.images[0, :, 0, 8, 8] * 255, torch.tensor([0.0, 80.0, 160.0]))
    true = make_cameras(5).select(torch.tensor([[0, 2, 4]]))
    assert torch.allclose(views.known.c2w, true.c2w, atol=1e-5)
    assert torch.allclose(views.known.intrinsics, true.intrinsics, atol=1e-5)
    assert read_scene_views(stored, scene="attic", posed=False, **settings).known is None


def test_the_first_held_out_scene_is_the_default_and_an_unknown_one_is_refused(stored: Path):
    settings = {"posed": False, "image_size": SIZE, "num_views": None, "most": 4}
    views = read_scene_views(stored, scene=None, **settings)
    assert torch.equal(views.images, read_scene_views(stored, scene="attic", **settings).images)
    assert views.notes == ("4 of 5 images are used; use --num_views for more",)
    with pytest.raises(InputError, match=r"no held-out scene 'atic'; it has 2, such as attic, cellar"):
        read_scene_views(stored, scene="atic", **settings)
    with pytest.raises(InputError, match=r"scene attic: 6 views are requested, but there are only 5 images"):
        read_scene_views(stored, scene=None, **settings | {"num_views": 6})
