"""A name or a file gives the right camera path; wrong settings are refused."""

import math
from pathlib import Path

import pytest
import torch

from openrayzer.geometry.paths import interpolate_path, orbit_path, spiral_path, wobble_path
from openrayzer.interfaces import InputError
from openrayzer.video.camera_files import write_cameras
from openrayzer.video.named_paths import FRAMES, PathChoice, named_path

CHOICES = [
    (PathChoice(), lambda views: interpolate_path(views, FRAMES)),
    (PathChoice(num_frames=9, loop=True, pace="speed"), lambda v: interpolate_path(v, 9, loop=True, pace="speed")),
    (PathChoice("orbit", 9, degrees=40.0, loop=True), lambda v: orbit_path(v, 9, arc=math.radians(40), loop=True)),
    (PathChoice("orbit", 9), lambda views: orbit_path(views, 9)),
    (PathChoice("wobble", 9, radius=0.3, turns=2), lambda views: wobble_path(views, 9, share=0.3, turns=2)),
    (PathChoice("spiral", 9, radius=0.5), lambda views: spiral_path(views, 9, share=0.5)),
]


@pytest.mark.parametrize("place", range(len(CHOICES)))
def test_each_name_gives_its_path(make_cameras, place: int):
    choice, expected = CHOICES[place]
    path = named_path(choice, image_size=(8, 8))(make_cameras(4))
    assert torch.equal(path.c2w, expected(make_cameras(4)).c2w)


def test_a_file_gives_the_path_that_was_written(tmp_path: Path, make_cameras):
    stored, file = make_cameras(5), str(tmp_path / "path.json")
    write_cameras(Path(file), stored, image_size=(8, 16))
    for frames in (None, 5):
        path = named_path(PathChoice(file, frames), image_size=(16, 32))(make_cameras(2))
        assert torch.equal(path.c2w, stored.c2w)
        assert torch.equal(path.intrinsics, stored.intrinsics)
    through = named_path(PathChoice(file, 9), image_size=(8, 16))(make_cameras(2))
    assert torch.allclose(through.c2w[:, ::2], stored.c2w, atol=1e-5)
    there_and_back = named_path(PathChoice(file, loop=True), image_size=(8, 16))(make_cameras(2))
    assert there_and_back.num_views == 5
    with pytest.raises(InputError, match="another aspect ratio"):
        named_path(PathChoice(file), image_size=(16, 16))


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        (PathChoice("orbitt"), "no such path; did you mean 'orbit'"),
        (PathChoice("none.json"), "none.json: there is no such file"),
        (PathChoice(num_frames=0), "--frames must be from 1 to 1000000, got 0"),
        (PathChoice("orbit", degrees=0.0), "--degrees must be above 0 and at most 360"),
        (PathChoice("orbit", degrees=400.0), "--degrees must be above 0 and at most 360"),
        (PathChoice("wobble", turns=0), "--turns must be 1 or more"),
        (PathChoice("wobble", radius=0.0), "--radius must be above 0"),
        (PathChoice("wobble", radius=math.nan), "--radius must be above 0"),
    ],
)
def test_wrong_settings_are_explained(choice: PathChoice, said: str):
    with pytest.raises(InputError, match=said):
        named_path(choice, image_size=(8, 8))
