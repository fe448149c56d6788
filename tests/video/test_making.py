"""tools/render_video.py makes videos and camera files from a run folder and images, and refuses wrong input."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from tool_runs import POINTS, ROOT, Tool, make_run, tool_named

from openrayzer import load_model
from openrayzer.data.pixels.false_colours import as_picture, colour_range
from openrayzer.geometry.paths import interpolate_path
from openrayzer.geometry.poses import normalise_poses
from openrayzer.video.camera_files import export_cameras, read_cameras
from openrayzer.video.making import VideoRequest, make_video
from openrayzer.video.named_paths import PathChoice

av = pytest.importorskip("av")
LVSM = json.dumps({
    "type": "lvsm_encoder_decoder", "position_encoding": {"type": "none"}, "fusion": {"type": "pixel"},
    "renderer": {"type": "joint", "depth": 1}, "encoder_depth": 1, "num_latents": 4,
})  # fmt: skip
GIVEN = ['model.intrinsics="given"', 'model.camera_head={"type":"pi3","field_of_view":"fixed"}']


@pytest.fixture
def tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Tool:
    """Return a function that runs the tool in a new folder and returns exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    return tool_named("render_video", monkeypatch, capsys)


def frames_of(file: Path) -> np.ndarray:
    """Return all frames of a video, (f, h, w, 3)."""
    with av.open(str(file)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


BASE = ("--run", "run", "--images", "photos", "--output", "out.mp4", "--device", "cpu")


def test_a_folder_of_images_becomes_a_video_of_new_views(tool: Tool, tmp_path: Path, photos: Path):
    """The decoded frames are the model's views from the exported cameras, up to compression."""
    model = load_model(make_run(tmp_path / "run"))
    code, said, _ = tool(
        *BASE, "--frames", "7", "--batch", "3", "--quality", "best", "--side_by_side", "--export_cameras", "c.json",
        "colmap", "--export_path", "path.json",
    )  # fmt: skip
    assert code == 0
    assert "3 views: photo_0.png, photo_2.png, photo_5.png" in said
    assert "out.mp4: 7 frames of 32 x 24, 0.23 s" in said
    red = torch.tensor([0.0, 80.0, 200.0])
    images = torch.stack([red, 255 - red, torch.full((3,), 7.0)], -1)[None, :, :, None, None] / 255
    images = images.expand(1, 3, 3, 24, 32).contiguous()
    with torch.inference_mode():
        cameras = model.estimate(images)
        path = interpolate_path(cameras, 7)
        expected = model.render(model.reconstruct(images, cameras), path)[0].clamp(0, 1) * 255
    assert torch.equal(read_cameras(tmp_path / "c.json").cameras.c2w, cameras.c2w)
    assert torch.allclose(read_cameras(tmp_path / "path.json").cameras.c2w, path.c2w)
    video = frames_of(tmp_path / "out.mp4")
    assert video.shape == (7, 24, 32, 3)
    luma = torch.tensor([0.2126, 0.7152, 0.0722])  # of BT.709; colours are stored at half the resolution
    error = torch.from_numpy(video).float() @ luma - torch.einsum("fchw, c -> fhw", expected, luma)
    assert error.abs().mean() < 3
    beside = frames_of(tmp_path / "out_side_by_side.mp4")
    assert beside.shape[0] == 7
    assert (tmp_path / "colmap/sparse/0/images.txt").is_file()
    code, _, _ = tool(*BASE, "--path", "path.json", "--quality", "best")  # the stored path gives the same video
    assert code == 0
    assert np.abs(frames_of(tmp_path / "out.mp4").astype(int) - video).max() <= 2


def test_maps_become_videos_in_colours_that_the_context_views_fix(tool: Tool, tmp_path: Path, photos: Path):
    model = load_model(make_run(tmp_path / "run", experiment=POINTS))
    code, said, errors = tool(
        *BASE, "--maps", "depth", "opacity", "--frames", "5", "--batch", "2", "--quality", "best",
        "--export_cameras", "views.json", "--export_path", "path.json",
    )  # fmt: skip
    assert code == 0, errors
    assert said.splitlines()[2:4] == ["out.depth.mp4", "out.opacity.mp4"]
    images = torch.from_numpy(np.stack([frame / 255 for frame in read_photos(photos, (0, 2, 5))])).float()
    views, path = read_cameras(tmp_path / "views.json").cameras, read_cameras(tmp_path / "path.json").cameras
    with torch.inference_mode():
        scene = model.reconstruct(images.movedim(-1, 1)[None].contiguous(), views)
        context, along = model.render_maps(scene, views), model.render_maps(scene, path)
    luma = np.array([0.2126, 0.7152, 0.0722])  # of BT.709; colours are stored at half the resolution
    for name in ("depth", "opacity"):
        expected = np.stack(
            [as_picture(name, value, colour_range(name, context[name])).numpy() for value in along[name][0]]
        )
        video = frames_of(tmp_path / f"out.{name}.mp4")
        assert video.shape == expected.shape == (5, 24, 32, 3)
        assert np.abs(video @ luma - expected @ luma).mean() < 4, name
    code, _, errors = tool(*BASE, "--maps", "depht")
    assert code == 2
    assert "--maps depht: the model 'points' has no such map; did you mean 'depth'? known: depth, opacity" in errors


def read_photos(folder: Path, numbers: tuple[int, ...]) -> list[np.ndarray]:
    """Return some of the images of the fixture ``photos``, RGB."""
    return [cv2.imread(str(folder / f"photo_{number}.png"))[..., ::-1] for number in numbers]


def test_paths_may_be_strings(tmp_path: Path, photos: Path):
    run = make_run(tmp_path / "run")
    output, exported = str(tmp_path / "out.mp4"), str(tmp_path / "c.json")
    request = VideoRequest(
        run=run, images=str(photos), output=output, path=PathChoice(num_frames=2), export=(exported,), num_views=2
    )
    assert make_video(request, say=lambda _: None).num_frames == 2
    assert read_cameras(exported).cameras.num_views == 2


@pytest.mark.parametrize("path", ["orbit --degrees 30 --loop", "wobble", "spiral --turns 1"])
def test_every_path_makes_a_video(tool: Tool, tmp_path: Path, photos: Path, path: str):
    make_run(tmp_path / "run")
    code, _, errors = tool(*BASE, "--frames", "4", "--path", *path.split(), "--num_views", "1")
    assert code == 0, errors
    assert len(frames_of(tmp_path / "out.mp4")) == 4


def test_a_posed_model_renders_with_the_cameras_of_a_scene(tool: Tool, tmp_path: Path, make_cameras):
    make_run(tmp_path / "run", f"model={LVSM}")
    cameras, images = make_cameras(4), torch.rand(1, 4, 3, 24, 32)
    export_cameras(tmp_path / "scene", cameras, names=[f"{view}.png" for view in range(4)], images=images)
    call = ("--run", "run", "--images", "scene/images", "--output", "out.mp4", "--num_views", "4", "--frames", "3")
    code, _, errors = tool(*call)
    assert (code, (tmp_path / "out.mp4").exists()) == (2, False)
    assert "the model 'lvsm_encoder_decoder' needs camera poses: give --cameras" in errors
    code, _, errors = tool(*call, "--cameras", "scene", "--export_cameras", "c.json", "--device", "cpu")
    assert code == 0, errors
    used = read_cameras(tmp_path / "c.json").cameras
    assert torch.allclose(used.c2w, normalise_poses(cameras.c2w), atol=1e-4)
    assert torch.allclose(used.intrinsics, cameras.intrinsics, atol=1e-5)


def test_a_posed_model_renders_with_the_cameras_of_a_held_out_scene(
    tool: Tool, tmp_path: Path, stored: Path, make_cameras
):
    make_run(tmp_path / "run", f"model={LVSM}")
    call = ("--run", "run", "--data", str(stored), "--output", "out.mp4", "--num_views", "5", "--frames", "2")
    code, _, errors = tool(*call, "--device", "cpu", "--export_cameras", "c.json")
    assert code == 0, errors
    used = read_cameras(tmp_path / "c.json").cameras
    assert torch.allclose(used.c2w, normalise_poses(make_cameras(5).c2w), atol=1e-4)
    assert torch.allclose(used.intrinsics, make_cameras(5).intrinsics, atol=1e-5)
    code, _, errors = tool(*call, "--cameras", "c.json")
    assert (code, "the scenes of --data have cameras; leave out --cameras" in errors) == (2, True)


def test_a_model_that_needs_intrinsics_gets_them(tool: Tool, tmp_path: Path, photos: Path, make_cameras):
    make_run(tmp_path / "run", *GIVEN)
    code, _, errors = tool(*BASE)
    assert (code, "needs intrinsics" in errors) == (2, True)
    names, images = [f"photo_{view}.png" for view in range(6)], torch.rand(1, 6, 3, 24, 32)
    export_cameras(tmp_path / "known.json", make_cameras(6), names=names, images=images)
    code, _, errors = tool(*BASE, "--frames", "2", "--cameras", "known.json", "--export_cameras", "c.json")
    assert code == 0, errors
    used = read_cameras(tmp_path / "c.json").cameras.intrinsics
    assert torch.allclose(used, make_cameras(6).intrinsics[:, [0, 2, 5]])


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("--run none", "none"),
        ("--images none", "there is no folder none"),
        ("--output out.avi", "must end in .mp4"),
        ("--image_size 20 32", "--image_size: images of 20 x 32 pixels (height x width) do not fit the model"),
        ("--maps depth", "--maps depth: the model 'rayzer' has no such map; known: (none)"),
        ("--maps a --side_by_side out.a.mp4", "two outputs have the same name"),
        ("--image_size 0 32", "--image_size must be height and width"),
        ("--path orbt", "did you mean 'orbit'"),
        ("--frames 0", "--frames must be from 1 to 1000000"),
        ("--frames 1000000000", "--frames must be from 1 to 1000000"),
        ("--batch 0", "--batch must be 1 or more"),
        ("--fps 0.0004", "--fps must be from 0.001 to 1000"),
        ("--fps nan", "--fps must be from 0.001 to 1000"),
        ("--scene room", "--scene names a scene of --data"),
        ("--num_views 9", "9 views are requested, but there are only 6 images"),
        ("--device cuda:99", "--device cuda:99"),
        ("--device tpu9", "--device tpu9"),
        ("--side_by_side out.mp4", "two outputs have the same name"),
        ("--side_by_side new/../out.mp4", "two outputs have the same name"),
        ("--export_cameras a a/transforms.json", "would share a folder"),
        ("--export_cameras a/c.json a", "would share a folder"),
        ("--export_cameras a/transforms.json a/images", "would share a folder"),
        ("--images out.mp4", "out.mp4 is an input and would be overwritten"),
        ("--cameras run/experiment.json --export_cameras run/experiment.json", "is an input and would be overwritten"),
        ("--path run/experiment.json --export_path ./run/experiment.json", "is an input and would be overwritten"),
        ("--export_cameras photos", "--export_cameras photos exists and is not empty"),
        ("--export_cameras run/experiment.json/c.json", "experiment.json is not a folder"),
        ("--export_path path.txt", "must end in .json"),
        ("--cameras c.json", "there is no c.json"),
        ("--checkpoint step_1", "step_1"),
    ],
)
def test_wrong_input_is_explained_and_leaves_no_video(tool: Tool, tmp_path: Path, photos: Path, more: str, said: str):
    make_run(tmp_path / "run")
    (tmp_path / "out.mp4").write_bytes(b"before")
    code, _, errors = tool(*BASE, *more.split())
    assert code == 2
    assert said in errors.splitlines()[-1]
    assert errors.splitlines()[-1].startswith("error: ")
    assert (tmp_path / "out.mp4").read_bytes() == b"before"
    assert not [file for file in tmp_path.iterdir() if file.name.startswith((".", "unfinished"))]


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_leaves_no_part_of_a_video(tmp_path: Path, photos: Path, number: signal.Signals, code: int):
    make_run(tmp_path / "run")
    command = [sys.executable, str(ROOT / "tools/render_video.py"), *BASE, "--frames", "100000", "--side_by_side"]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.DEVNULL) as tool:
        until = time.monotonic() + 100
        while len(list(tmp_path.glob(".out*.tmp"))) < 2 and tool.poll() is None and time.monotonic() < until:
            time.sleep(0.05)
        begun = len(list(tmp_path.glob(".out*.tmp")))
        tool.send_signal(number)
        assert (begun, tool.wait(60)) == (2, code)
    assert {file.name for file in tmp_path.iterdir()} == {"run", "photos"}


def test_cameras_for_a_model_that_estimates_them_are_refused(tool: Tool, tmp_path: Path, photos: Path, make_cameras):
    make_run(tmp_path / "run")
    names = [f"photo_{view}.png" for view in range(6)]
    export_cameras(tmp_path / "c.json", make_cameras(6), names=names, images=torch.rand(1, 6, 3, 24, 32))
    code, _, errors = tool(*BASE, "--cameras", "c.json")
    assert (code, "estimates cameras itself; leave out --cameras" in errors) == (2, True)


def test_help_names_all_paths_and_outputs(tool: Tool):
    code, page, _ = tool("--help")
    assert code == 0
    for word in ("interpolate", "orbit", "wobble", "spiral", "FILE.json", "--export_cameras", "--side_by_side"):
        assert word in page
