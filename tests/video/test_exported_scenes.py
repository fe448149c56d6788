"""tools/export_scene.py writes Gaussians, points and depth maps that other programs read, and refuses wrong input."""

import io
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from tool_runs import POINTS, TINY, Tool, make_run, tool_named

from openrayzer import load_model
from openrayzer.interfaces import RASTERISERS, Gaussians, GaussianScene, InputError
from openrayzer.types import Cameras
from openrayzer.video.exporting import DEEPEST, write_depth_maps
from openrayzer.video.points import points_of
from openrayzer.video.splat_files import (
    base_colours,
    gaussians_of_points,
    kept_gaussians,
    ply_content,
    splat_content,
    write_gaussians,
)

EXPLICIT = ('model.renderer={"type": "gaussians", "rasteriser": {"type": "torch"}, "harmonics_degree": 1}',
            "model.num_latents=0")  # fmt: skip
BASE = ("--run", "run", "--images", "photos", "--device", "cpu")


def some_gaussians(count: int = 5, *, degree: int = 2) -> Gaussians:
    generator = torch.Generator().manual_seed(3)
    opacities = torch.rand(1, count, generator=generator)
    return Gaussians(
        means=torch.randn(1, count, 3, generator=generator),
        scales=torch.rand(1, count, 3, generator=generator) + 0.01,
        rotations=torch.randn(1, count, 4, generator=generator),
        opacities=opacities,
        harmonics=torch.randn(1, count, (degree + 1) ** 2, 3, generator=generator),
    )


def read_vertices(content: bytes) -> np.ndarray:
    """The vertices of a binary PLY file whose properties are all float32."""
    header, _, body = content.partition(b"end_header\n")
    names = [line.split()[2] for line in header.decode().splitlines() if line.startswith("property float")]
    return np.frombuffer(body, [(name, "<f4") for name in names])


@pytest.mark.parametrize("degree", [0, 1, 3])
def test_the_ply_file_has_the_properties_of_3d_gaussian_splatting(degree: int):
    gaussians = some_gaussians(degree=degree)
    vertices = read_vertices(ply_content(gaussians))
    rest = 3 * ((degree + 1) ** 2 - 1)
    assert list(vertices.dtype.names) == [
        "x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2", *(f"f_rest_{place}" for place in range(rest)),
        "opacity", "scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3",
    ]  # fmt: skip
    np.testing.assert_array_equal(vertices["y"], gaussians.means[0, :, 1])
    np.testing.assert_allclose(1 / (1 + np.exp(-vertices["opacity"])), gaussians.opacities[0], rtol=1e-5)
    np.testing.assert_allclose(np.exp(vertices["scale_2"]), gaussians.scales[0, :, 2], rtol=1e-5)
    unit = gaussians.rotations[0] / gaussians.rotations[0].norm(dim=-1, keepdim=True)
    np.testing.assert_allclose(vertices["rot_0"], unit[:, 0], rtol=1e-5)
    np.testing.assert_array_equal(vertices["f_dc_2"], gaussians.harmonics[0, :, 0, 2])
    if degree:  # the coefficients of one channel follow each other
        each = (degree + 1) ** 2 - 1
        np.testing.assert_array_equal(vertices[f"f_rest_{each + 1}"], gaussians.harmonics[0, :, 2, 1])


def test_trimesh_reads_the_positions_of_the_ply_file():
    trimesh = pytest.importorskip("trimesh")
    gaussians = some_gaussians()
    read = trimesh.load(io.BytesIO(ply_content(gaussians)), file_type="ply")
    np.testing.assert_allclose(read.vertices, gaussians.means[0], rtol=1e-6)


def test_plyfile_reads_the_ply_file():
    plyfile = pytest.importorskip("plyfile")
    gaussians = some_gaussians()
    vertex = plyfile.PlyData.read(io.BytesIO(ply_content(gaussians)))["vertex"]
    np.testing.assert_array_equal(vertex["f_rest_9"], gaussians.harmonics[0, :, 2, 1])


def test_opacities_of_0_and_1_and_scales_of_0_stay_finite_in_the_ply_file():
    gaussians = some_gaussians(2)
    gaussians.opacities[:] = torch.tensor([0.0, 1.0])
    gaussians.scales[:] = 0.0
    vertices = read_vertices(ply_content(gaussians))
    assert all(np.isfinite(vertices[name]).all() for name in vertices.dtype.names)


def test_the_splat_file_has_32_bytes_for_each_gaussian_the_largest_first():
    gaussians = some_gaussians(4)
    gaussians.opacities[:] = 0.5
    gaussians.scales[:] = torch.tensor([0.1, 0.4, 0.2, 0.3])[None, :, None]
    content = splat_content(gaussians)
    assert len(content) == 4 * 32
    floats = np.frombuffer(content, "<f4").reshape(4, 8)
    np.testing.assert_allclose(floats[:, 3], [0.4, 0.3, 0.2, 0.1], rtol=1e-6)
    np.testing.assert_array_equal(floats[0, :3], gaussians.means[0, 1])
    bytes_of = np.frombuffer(content, np.uint8).reshape(4, 32)
    np.testing.assert_allclose(bytes_of[0, 24:27] / 255, base_colours(gaussians)[0, 1], atol=0.5 / 255)
    assert bytes_of[0, 27] == 128
    unit = gaussians.rotations[0, 1] / gaussians.rotations[0, 1].norm()
    np.testing.assert_allclose((bytes_of[0, 28:].astype(float) - 128) / 128, unit, atol=1 / 128)


def test_gaussians_that_are_not_finite_and_unknown_formats_are_refused(tmp_path: Path):
    gaussians = some_gaussians()
    with pytest.raises(InputError, match=r"scene.obj: Gaussians can be written as .ply or .splat"):
        write_gaussians(tmp_path / "scene.obj", gaussians)
    gaussians.means[0, 3] = torch.nan
    with pytest.raises(InputError, match="means of 1 Gaussians are not finite, first of Gaussian 3"):
        write_gaussians(tmp_path / "scene.ply", gaussians)
    assert not list(tmp_path.iterdir())


def test_depth_maps_are_read_back(tmp_path: Path):
    depth = torch.tensor([[[[0.5, 1.25], [torch.nan, -1.0]], [[2.0, 100.0], [3.0, 4.0]]]])
    for form in ("npy", "png"):
        write_depth_maps(tmp_path / form, depth, ("a.png", "b.jpg"), form=form)
    first = np.load(tmp_path / "npy/000_a.npy")
    np.testing.assert_array_equal(first, [[0.5, 1.25], [0, 0]])
    second = cv2.imread(str(tmp_path / "png/001_b.png"), cv2.IMREAD_UNCHANGED)
    assert second.tolist() == [[2000, DEEPEST], [3000, 4000]]


@pytest.fixture
def tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Tool:
    """Return a function that runs the tool in a new folder and returns exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    return tool_named("export_scene", monkeypatch, capsys)


def test_a_model_with_gaussians_writes_those_of_its_scene(tool: Tool, tmp_path: Path, photos: Path):
    model = load_model(make_run(tmp_path / "run", *EXPLICIT))
    code, said, errors = tool(*BASE, "--output", "scene.ply", "--num_views", "2", "--depth", "depth")
    assert code == 0, errors
    assert said.splitlines() == [
        "2 views: photo_0.png, photo_5.png",
        "scene.ply: 1536 Gaussians of 1536, with an opacity of 0.003922 or more",
        "depth: 2 depth maps",
    ]
    images = torch.tensor([[0.0, 255.0, 7.0], [200.0, 55.0, 7.0]])[None, :, :, None, None] / 255
    images = images.expand(1, 2, 3, 24, 32).contiguous()
    with torch.inference_mode():
        cameras = model.estimate(images)
        scene = model.reconstruct(images, cameras)
        maps = model.render_maps(scene, cameras)
    assert isinstance(scene, GaussianScene)
    vertices = read_vertices((tmp_path / "scene.ply").read_bytes())
    np.testing.assert_allclose(vertices["z"], scene.gaussians.means[0, :, 2], atol=1e-5)
    np.testing.assert_allclose(np.load(tmp_path / "depth/001_photo_5.npy"), maps["depth"][0, 1, 0], atol=1e-4)
    kept = scene.gaussians.opacities > scene.gaussians.opacities.median()
    least = float(scene.gaussians.opacities[kept].min())
    code, said, errors = tool(*BASE, "--output", "scene.splat", "--num_views", "2", "--min_opacity", f"{least:.9g}")
    assert code == 0, errors
    assert (tmp_path / "scene.splat").stat().st_size == 32 * int(kept.sum())
    assert kept_gaussians(scene.gaussians, kept).num_gaussians == int(kept.sum())


def test_a_terminal_gets_the_stages_of_an_export(
    tool: Tool, tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "200")
    make_run(tmp_path / "run", *EXPLICIT)
    code, said, errors = tool(*BASE, "--output", "scene.ply", "--num_views", "2")
    assert code == 0
    assert "scene.ply: " in said
    assert "0/4 stages, loading the model and the views" in errors
    assert "4/4 stages, took 0:00:0" in errors


def test_each_view_is_rendered_once(tool: Tool, tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("trimesh")
    model = load_model(make_run(tmp_path / "run", experiment=POINTS))
    rendered, render = [], type(model).render_maps

    def counted(self, scene, cameras):
        rendered.append(cameras.num_views)
        return render(self, scene, cameras)

    monkeypatch.setattr(type(model), "render_maps", counted)
    options = ("--content", "gaussians", "--depth", "depth", "--export_cameras", "colmap", "--batch", "3")
    code, _, errors = tool(*BASE, "--output", "scene.ply", "--num_views", "6", *options)
    assert code == 0, errors
    assert (rendered.count(3), len(rendered) <= 3) == (2, True)  # and at most one trial of the memory of one view


def test_points_are_written_as_glb_with_y_up_and_z_backward(tool: Tool, tmp_path: Path, photos: Path):
    trimesh = pytest.importorskip("trimesh")
    make_run(tmp_path / "run", experiment=POINTS)
    for name in ("scene.ply", "scene.glb"):
        code, said, errors = tool(*BASE, "--output", name, "--num_views", "2")
        assert code == 0, errors
        assert f"{name}: 1536 points of 1536 pixels" in said
    code, _, errors = tool(*BASE, "--output", "again.ply", "--num_views", "2", "--export_cameras", "colmap")
    assert code == 0, errors
    plain = trimesh.load(tmp_path / "scene.ply")
    rows = [line.split() for line in (tmp_path / "colmap/sparse/0/points3D.txt").read_text().splitlines()[1:]]
    np.testing.assert_allclose([[float(number) for number in row[1:4]] for row in rows], plain.vertices, atol=1e-5)
    assert [int(number) for number in rows[7][4:7]] == plain.colors[7, :3].tolist()
    (turned,) = trimesh.load(tmp_path / "scene.glb").geometry.values()
    np.testing.assert_allclose(turned.vertices * [1, -1, -1], plain.vertices, atol=1e-5)
    np.testing.assert_array_equal(turned.colors, plain.colors)


def test_each_pixel_of_a_model_with_depth_becomes_a_gaussian_on_request(tool: Tool, tmp_path: Path, photos: Path):
    pytest.importorskip("trimesh")
    make_run(tmp_path / "run", experiment=POINTS)
    for name, option in (("scene.ply", ("--content", "gaussians")), ("scene.splat", ())):
        code, said, errors = tool(*BASE, "--output", name, "--num_views", "2", *option)
        assert code == 0, errors
        assert f"{name}: 1536 Gaussians of 1536 pixels" in said
    assert len(read_vertices((tmp_path / "scene.ply").read_bytes())) == 1536


def test_gaussians_in_place_of_pixels_give_the_picture_again():
    """A picture on the plane z = 2, seen from its own camera and from one that moved by four pixels."""
    camera = Cameras(torch.eye(4)[None, None], torch.tensor([[[0.9, 1.2, 0.5, 0.5]]]))
    y, x, channel = torch.meshgrid(torch.arange(24), torch.arange(32), torch.arange(3), indexing="ij")
    image = (0.5 + 0.4 * (0.3 * x + 0.2 * y + channel).sin()).movedim(-1, 0)[None, None]
    depth = torch.full((1, 1, 24, 32), 2.0)
    cloud = points_of(image, depth, camera, torch.ones_like(depth, dtype=torch.bool))
    assert cloud.footprints.unique().item() == pytest.approx(2 / (0.9 * 32))
    gaussians = gaussians_of_points(cloud.positions, cloud.colours, cloud.footprints)
    seen = RASTERISERS["torch"]().rasterise(gaussians, camera, (24, 32), background=torch.zeros(1, 1, 3))
    inside = (..., slice(2, -2), slice(2, -2))
    assert (seen.images - image)[inside].abs().max() < 0.1
    assert seen.opacity[inside].min() > 0.9
    moved = Cameras(camera.c2w.clone(), camera.intrinsics)
    moved.c2w[..., 0, 3] = 4 * float(cloud.footprints[0])
    shifted = RASTERISERS["torch"]().rasterise(gaussians, moved, (24, 32), background=torch.zeros(1, 1, 3))
    torch.testing.assert_close(shifted.images[..., 4:20, 4:20], seen.images[..., 4:20, 8:24], atol=0.01, rtol=0)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("--output scene.obj", "a file of a scene must end in .glb or .ply or .splat"),
        ("--output scene.glb --content gaussians", "a file of gaussians must end in .ply or .splat"),
        ("--output scene.ply --min_opacity 2", "--min_opacity must be from 0 to 1, got 2"),
        ("--output scene.ply --depth photos", "--depth photos exists and is not empty"),
    ],
)
def test_wrong_input_is_explained_and_leaves_no_file(tool: Tool, tmp_path: Path, photos: Path, more: str, said: str):
    pytest.importorskip("trimesh")
    make_run(tmp_path / "run", experiment=POINTS)
    code, _, errors = tool(*BASE, *more.split())
    assert code == 2
    assert said in errors.splitlines()[-1]
    assert not list(tmp_path.glob("scene.*"))


def test_a_model_without_gaussians_and_depth_has_nothing_to_write(tool: Tool, tmp_path: Path, photos: Path):
    pytest.importorskip("trimesh")
    make_run(tmp_path / "run", experiment=TINY)
    for name, said in (
        ("scene.ply", "the model 'rayzer' has no map 'depth'"),
        ("scene.splat", "neither Gaussians nor"),
    ):
        code, _, errors = tool(*BASE, "--output", name)
        assert (code, said in errors) == (2, True)
