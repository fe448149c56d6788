"""tools/export_points.py writes the points that a model sees, with their colours, and refuses wrong input."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tool_runs import POINTS, TINY, Tool, make_run, tool_named
from torch import Tensor

from openrayzer import load_model
from openrayzer.geometry.poses import invert
from openrayzer.geometry.rays import project, unproject
from openrayzer.geometry.rotations import pose_from, so3_exp
from openrayzer.types import Cameras
from openrayzer.video.points import EDGE_POINTS, FRUSTUM_COLOUR, frustums, points_of

SIZE = (24, 32)


def facing_cameras() -> Cameras:
    """Three cameras that look at the plane z = 4, from different places and with different focal lengths."""
    turns = torch.tensor([[0.0, 0.0, 0.0], [0.05, 0.2, 0.0], [-0.1, -0.15, 0.1]])
    centres = torch.tensor([[0.0, 0.0, 0.0], [-0.8, 0.1, 0.3], [0.7, 0.3, -0.2]])
    intrinsics = torch.tensor([[0.9, 1.2, 0.5, 0.5], [1.0, 1.3, 0.45, 0.5], [0.8, 1.1, 0.5, 0.55]])
    return Cameras(pose_from(so3_exp(turns), centres)[None], intrinsics[None])


def depth_of_plane(cameras: Cameras) -> Tensor:
    """Depth (1, v, h, w) of the plane z = 4: the distance in z, over the z of a ray of depth 1."""
    ray = unproject(torch.ones(1, cameras.num_views, *SIZE), cameras)[:, :, 2] - cameras.c2w[..., 2, 3, None, None]
    return (4 - cameras.c2w[..., 2, 3, None, None]) / ray


def painted(positions: Tensor) -> Tensor:
    """The colour (..., 3) of a point of the plane."""
    x, y = positions[..., 0], positions[..., 1]
    return torch.stack([0.5 + 0.3 * x.sin(), 0.5 + 0.3 * y.cos(), 0.5 + 0.2 * (x + y).sin()], dim=-1)


@pytest.fixture
def plane() -> tuple[Tensor, Tensor, Cameras]:
    """Images of a painted plane, its depth, and the cameras."""
    cameras = facing_cameras()
    depth = depth_of_plane(cameras)
    return painted(unproject(depth, cameras).movedim(2, -1)).movedim(-1, 2), depth, cameras


def test_points_lie_on_the_surface_and_have_its_colour(plane):
    images, depth, cameras = plane
    cloud = points_of(images, depth, cameras, torch.ones_like(depth, dtype=torch.bool))
    assert cloud.num_points == depth.numel()
    torch.testing.assert_close(cloud.positions[:, 2], torch.full((depth.numel(),), 4.0), atol=1e-4, rtol=0)
    assert (cloud.colours - 255 * painted(cloud.positions)).abs().max() <= 0.51


def test_points_of_one_view_have_the_colours_of_another_view_where_it_shows_them(plane):
    images, depth, cameras = plane
    kept = torch.zeros_like(depth, dtype=torch.bool)
    kept[:, 1] = True
    cloud = points_of(images, depth, cameras, kept)
    place = project(cloud.positions[None, None].expand(1, 3, -1, 3), cameras)[0, 2]
    seen = ((place > 0.05) & (place < 0.95)).all(dim=-1)
    assert 0.2 < seen.float().mean() < 1
    there = F.grid_sample(images[:, 2], 2 * place[seen][None, None] - 1, align_corners=False)[0, :, 0].T
    error = (there - cloud.colours[seen] / 255).abs().max()
    assert error < 0.01
    wrong = points_of(images, 1.2 * depth, cameras, kept)
    place = project(wrong.positions[None, None].expand(1, 3, -1, 3), cameras)[0, 2]
    there = F.grid_sample(images[:, 2], 2 * place[seen][None, None] - 1, align_corners=False)[0, :, 0].T
    assert (there - wrong.colours[seen] / 255).abs().max() > 5 * error


def test_only_kept_pixels_become_points(plane):
    images, depth, cameras = plane
    kept = torch.zeros_like(depth, dtype=torch.bool)
    kept[0, 2, 5, 7] = True
    cloud = points_of(images, depth, cameras, kept)
    place = project(cloud.positions[None, None].expand(1, 3, 1, 3), cameras)[0, 2, 0]
    torch.testing.assert_close(place * torch.tensor([32, 24]), torch.tensor([7.5, 5.5]), atol=1e-4, rtol=0)


def test_a_frustum_runs_from_the_centre_of_a_camera_to_the_corners_of_its_image():
    cameras = facing_cameras()
    drawn = frustums(cameras, depth=0.3)
    points = drawn.positions.view(3, 8, EDGE_POINTS, 3)
    assert drawn.colours.unique(dim=0).tolist() == [list(FRUSTUM_COLOUR)]
    torch.testing.assert_close(points[:, :4, 0], cameras.c2w[0, :, None, :3, 3].expand(3, 4, 3))
    corners = points[:, :4, -1]
    torch.testing.assert_close(
        project(corners[None], cameras)[0],
        torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]).expand(3, 4, 2), atol=1e-5, rtol=0,
    )  # fmt: skip
    w2c = invert(cameras.c2w)[0]
    along = torch.einsum("vj, vcj -> vc", w2c[:, 2, :3], corners) + w2c[:, 2, 3, None]
    torch.testing.assert_close(along, torch.full((3, 4), 0.3))
    torch.testing.assert_close(points[:, 4:, -1], corners.roll(-1, dims=1))


@pytest.fixture
def tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Tool:
    """Return a function that runs the tool in a new folder and returns exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    return tool_named("export_points", monkeypatch, capsys)


BASE = ("--run", "run", "--images", "photos", "--output", "scene.ply", "--device", "cpu")


def test_the_file_holds_the_points_of_the_model(tool: Tool, tmp_path: Path, photos: Path):
    trimesh = pytest.importorskip("trimesh")
    model = load_model(make_run(tmp_path / "run", experiment=POINTS))
    code, said, errors = tool(*BASE, "--num_views", "2", "--draw_cameras")
    assert code == 0, errors
    assert said.splitlines() == ["2 views: photo_0.png, photo_5.png", "scene.ply: 1536 points of 1536 pixels"]
    images = torch.tensor([[0.0, 255.0, 7.0], [200.0, 55.0, 7.0]])[None, :, :, None, None] / 255
    images = images.expand(1, 2, 3, *SIZE).contiguous()
    with torch.inference_mode():
        cameras = model.estimate(images)
        depth = model.render_maps(model.reconstruct(images, cameras), cameras)["depth"][:, :, 0]
    expected = points_of(images, depth, cameras, torch.ones_like(depth, dtype=torch.bool))
    read = trimesh.load(tmp_path / "scene.ply")
    assert read.vertices.shape == (1536 + 2 * 8 * EDGE_POINTS, 3)
    np.testing.assert_allclose(read.vertices[:1536], expected.positions, atol=1e-5)
    np.testing.assert_array_equal(read.colors[:1536, :3], expected.colours)
    assert (read.colors[1536:, :3] == FRUSTUM_COLOUR).all()


def test_points_of_low_confidence_are_left_out(
    tool: Tool, tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
):
    pytest.importorskip("trimesh")
    model = load_model(make_run(tmp_path / "run", experiment=POINTS))
    shares = torch.linspace(0, 1, SIZE[1])
    render = type(model).render_maps

    def with_confidence(self, scene, cameras):
        maps = render(self, scene, cameras)
        return maps | {"confidence": shares.expand_as(maps["depth"])}

    monkeypatch.setattr(type(model), "render_maps", with_confidence)
    rows = SIZE[0] * 3
    for option, least in (((), 0.5), (("--min_confidence", "0.9"), 0.9), (("--min_confidence", "0"), 0.0)):
        code, said, errors = tool(*BASE, *option)
        assert code == 0, errors
        count = rows * int((shares >= least).sum())
        assert f"{count} points of {rows * 32} pixels, with a confidence of {least:g} or more" in said


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("--output scene.obj", "a file of points must end in .ply or .glb"),
        ("--min_confidence 2", "--min_confidence must be from 0 to 1, got 2"),
        ("--min_confidence 0.5", "the model 'points' has no map 'confidence'; leave out --min_confidence"),
        ("--run none", "none"),
        ("--images none", "there is no folder none"),
        ("--num_views 9", "9 views are requested, but there are only 6 images"),
    ],
)
def test_wrong_input_is_explained_and_leaves_no_file(tool: Tool, tmp_path: Path, photos: Path, more: str, said: str):
    pytest.importorskip("trimesh")
    make_run(tmp_path / "run", experiment=POINTS)
    code, _, errors = tool(*BASE, *more.split())
    assert code == 2
    assert said in errors.splitlines()[-1]
    assert not (tmp_path / "scene.ply").exists()


def test_a_model_without_depth_has_no_points(tool: Tool, tmp_path: Path, photos: Path):
    pytest.importorskip("trimesh")
    make_run(tmp_path / "run", experiment=TINY)
    code, _, errors = tool(*BASE)
    assert (code, "the model 'rayzer' has no map 'depth'" in errors) == (2, True)


def test_the_error_without_trimesh_names_the_command(
    tool: Tool, tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, "trimesh", None)
    code, _, errors = tool(*BASE)
    assert (code, "pip install 'openrayzer[points]'" in errors) == (2, True)
