"""COLMAP models, text and binary, give the cameras that were written; unregistered images stay in the sequence."""

import os
import struct
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from openrayzer.data.sources.colmap import Colmap
from openrayzer.data.sources.colmap_model import PARAMETERS
from openrayzer.interfaces import BrokenSceneError, InputError

SIZE = (24, 32)
POSES = [(Rotation.from_rotvec([0.1 * i, -0.2, 0.05 * i]), np.array([i, 0.5, -i])) for i in range(4)]


def opened(root: Path, **settings) -> Colmap:
    dataset = Colmap(root=root, **settings)
    dataset.open()
    return dataset


def pose_numbers(frame: int) -> list[float]:
    """Quaternion w, x, y, z and translation of the world-to-camera motion."""
    rotation, centre = POSES[frame]
    return [*rotation.inv().as_quat(scalar_first=True), *-rotation.inv().apply(centre)]


def write_images(folder: Path, count: int = 5) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for frame in range(count):
        cv2.imwrite(str(folder / f"f{frame}.png"), np.full((*SIZE, 3), frame, np.uint8))


CAMERA = ("PINHOLE", (25.6, 26.4, 16.0, 12.0))
REGISTERED = {"f4.png": 3, "f0.png": 0, "f3.png": 2, "f1.png": 1}  # f2.png is not


def write_text(folder: Path, *, camera=CAMERA, images=REGISTERED) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    model, parameters = camera
    (folder / "cameras.txt").write_text(f"# cameras\n1 {model} 32 24 {' '.join(map(str, parameters))}\n")
    lines = ["# images"]
    for name, frame in images.items():
        lines += [f"{frame + 7} {' '.join(map(str, pose_numbers(frame)))} 1 {name}", "1.5 2.5 -1" if frame % 2 else ""]
    (folder / "images.txt").write_text("\n".join(lines) + "\n")


def write_binary(folder: Path, *, camera=CAMERA, images=REGISTERED) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    model, parameters = camera
    data = struct.pack("<QiiQQ", 1, 1, PARAMETERS[model][0], 32, 24) + struct.pack(f"<{len(parameters)}d", *parameters)
    (folder / "cameras.bin").write_bytes(data)
    data = struct.pack("<Q", len(images))
    for name, frame in images.items():
        data += struct.pack("<i7di", frame + 7, *pose_numbers(frame), 1) + name.encode() + b"\0"
        data += struct.pack("<Q", frame) + struct.pack("<ddq", 1.5, 2.5, -1) * frame
    (folder / "images.bin").write_bytes(data)


WRITERS = pytest.mark.parametrize("write", [write_text, write_binary])


@WRITERS
@pytest.mark.parametrize("where", ["sparse/0", "sparse", "colmap/sparse/0"])
def test_frames_are_those_written(tmp_path, write, where):
    write_images(tmp_path / "a" / "images")
    write(tmp_path / "a" / where)
    dataset = opened(tmp_path)
    assert (len(dataset), dataset.key(0), dataset.num_frames(0)) == (1, "a", 5)
    assert "1 frame(s) marked missing, the first is frame 2: f2.png was not registered" in dataset.problems[0]
    frames = dataset.read(0, [4, 0, 1, 3])
    assert [int(image[0, 0, 0]) for image in frames.images] == [4, 0, 1, 3]
    for c2w, pose in zip(frames.c2w, (3, 0, 1, 2), strict=True):
        np.testing.assert_allclose(c2w[:3, :3], POSES[pose][0].as_matrix(), atol=1e-6)
        np.testing.assert_allclose(c2w[:3, 3], POSES[pose][1], atol=1e-6)
    np.testing.assert_allclose(frames.intrinsics[0], [0.8, 1.1, 0.5, 0.5], rtol=1e-6)
    with pytest.raises(BrokenSceneError, match=r"scene 'a', frame 2: f2\.png was not registered by COLMAP"):
        dataset.read(0, [2])


@WRITERS
def test_several_scenes_and_images_in_folders(tmp_path, write):
    for scene in ("a", "b"):
        write_images(tmp_path / scene / "images" / "left", 3)
        write_images(tmp_path / scene / "images" / "right", 2)
        write(tmp_path / scene / "sparse/0", images={"right/f1.png": 1, "left/f2.png": 2, "left/f0.png": 0})
    dataset = opened(tmp_path)
    assert [dataset.key(scene) for scene in range(2)] == ["a", "b"]
    assert dataset.num_frames(1) == 5
    assert [int(image[0, 0, 0]) for image in dataset.read(1, [0, 2, 4]).images] == [0, 2, 1]


def test_the_scene_itself_may_be_the_root_and_its_images_smaller(tmp_path):
    write_images(tmp_path / "a" / "images_4")
    write_binary(tmp_path / "a" / "sparse/0", camera=("PINHOLE", (102.4, 105.6, 64.0, 48.0)))
    path = tmp_path / "a/sparse/0/cameras.bin"
    path.write_bytes(path.read_bytes()[:16] + struct.pack("<QQ", 128, 96) + path.read_bytes()[32:])
    dataset = opened(tmp_path / "a", images="images_4")
    assert dataset.key(0) == "a"
    np.testing.assert_allclose(dataset.read(0, [0]).intrinsics[0], [0.8, 1.1, 0.5, 0.5], rtol=1e-6)


CAMERAS = {
    "SIMPLE_PINHOLE": (25.0, 16.0, 12.0),
    "PINHOLE": (25.0, 26.0, 16.0, 12.0),
    "SIMPLE_RADIAL": (25.0, 16.0, 12.0, -0.05),
    "RADIAL": (25.0, 16.0, 12.0, -0.05, 0.02),
    "OPENCV": (25.0, 26.0, 16.0, 12.0, -0.05, 0.02, 0.003, -0.002),
    "OPENCV_FISHEYE": (20.0, 20.0, 16.0, 12.0, 0.01, -0.01, 0.0, 0.0),
    "FULL_OPENCV": (25.0, 26.0, 16.0, 12.0, -0.05, 0.02, 0.003, -0.002, 0.01, 0.02, 0.0, 0.0),
    "FOV": (25.0, 26.0, 16.0, 12.0, 0.6),
    "SIMPLE_RADIAL_FISHEYE": (20.0, 16.0, 12.0, 0.01),
    "RADIAL_FISHEYE": (20.0, 16.0, 12.0, 0.01, -0.01),
    "THIN_PRISM_FISHEYE": (20.0, 20.0, 16.0, 12.0, 0.01, -0.01, 0.001, 0.002, 0.0, 0.0, 0.001, 0.0),
    "SIMPLE_DIVISION": (25.0, 16.0, 12.0, -0.1),
    "DIVISION": (25.0, 26.0, 16.0, 12.0, -0.1),
    "SIMPLE_FISHEYE": (20.0, 16.0, 12.0),
    "FISHEYE": (20.0, 20.0, 16.0, 12.0),
    "EUCM": (25.0, 26.0, 16.0, 12.0, 0.5, 1.1),
}


@WRITERS
@pytest.mark.parametrize("model", CAMERAS)
def test_every_camera_model_shows_the_world_through_a_pinhole(tmp_path, write, model):
    pycolmap = pytest.importorskip("pycolmap")
    camera = pycolmap.Camera(model=model, width=32, height=24, params=list(CAMERAS[model]))
    rows, columns = np.mgrid[:24, :32] + 0.5
    rays = np.asarray(camera.cam_from_img(np.stack([columns, rows], -1).reshape(-1, 2))).reshape(24, 32, -1)
    write_images(tmp_path / "images")
    ramps = np.clip(128 + 100 * rays[..., :2], 0, 255).round()  # red and green give the direction of a ray
    picture = np.dstack([np.zeros((24, 32)), ramps[..., 1], ramps[..., 0]]).astype(np.uint8)
    cv2.imwrite(str(tmp_path / "images/f0.png"), picture)
    write(tmp_path / "sparse", camera=(model, CAMERAS[model]))
    frames = opened(tmp_path).read(0, [0])
    fx, fy, cx, cy = frames.intrinsics[0]
    np.testing.assert_allclose(frames.images[0][..., 0], 128 + 100 * (columns / 32 - cx) / fx, atol=2)
    np.testing.assert_allclose(frames.images[0][..., 1], 128 + 100 * (rows / 24 - cy) / fy, atol=2)


def test_numbers_of_models_are_those_of_colmap():
    pycolmap = pytest.importorskip("pycolmap")
    for model, (number, parameters) in PARAMETERS.items():
        assert int(pycolmap.CameraModelId.__members__[model]) == number
        assert len(pycolmap.Camera.create_from_model_name(0, model, 30, 32, 24).params) == parameters


@pytest.mark.parametrize("form", ["text", "binary"])
def test_models_written_by_pycolmap_are_read(tmp_path, form):
    pycolmap = pytest.importorskip("pycolmap")
    pycolmap.set_random_seed(0)
    model = pycolmap.synthesize_dataset(pycolmap.SyntheticDatasetOptions())
    (tmp_path / "sparse").mkdir()
    getattr(model, f"write_{form}")(tmp_path / "sparse")
    images = sorted(model.images.values(), key=lambda image: image.name)
    (tmp_path / "images").mkdir()
    for image in images:
        cv2.imwrite(str(tmp_path / "images" / image.name), np.zeros((768, 1024, 3), np.uint8))
    c2w = opened(tmp_path).read(0, range(len(images))).c2w
    for mine, image in zip(c2w, images, strict=True):
        np.testing.assert_allclose(mine[:3], image.cam_from_world().inverse().matrix(), atol=1e-5)


def test_rare_models_name_the_package_that_is_missing(tmp_path, monkeypatch):
    write_images(tmp_path / "images")
    write_binary(tmp_path / "sparse", camera=("FOV", CAMERAS["FOV"]))
    monkeypatch.setitem(sys.modules, "pycolmap", None)
    with pytest.raises(InputError, match=r"model FOV need pycolmap: pip install 'openrayzer\[colmap\]'"):
        opened(tmp_path)
    write_binary(tmp_path / "sparse", camera=("RADIAL", CAMERAS["RADIAL"]))
    assert len(opened(tmp_path)) == 1


@pytest.mark.parametrize(
    ("name", "fault"),
    [("../../x.png", "leaves the scene's folder"), ("/etc/hostname", "leaves"), ("gone.png", "gone.png is not in")],
)
@WRITERS
def test_a_wrong_image_name_is_a_missing_frame(tmp_path, write, name, fault):
    write_images(tmp_path / "a" / "images", 2)
    write(tmp_path / "a" / "sparse", images={"f0.png": 0, "f1.png": 1, name: 2})
    dataset = opened(tmp_path)
    assert fault in dataset.problems[0]
    assert dataset.num_frames(0) == 3


def test_a_wrong_pose_or_camera_is_named(tmp_path):
    write_images(tmp_path / "images", 4)
    write_text(tmp_path / "sparse", images={f"f{frame}.png": frame for frame in range(4)})
    path = tmp_path / "sparse/images.txt"
    lines = path.read_text().splitlines()
    lines[1] = "7 nan 0 0 0 0 0 0 1 f0.png"
    lines[3] = "8 0 0 0 0 0 0 0 1 f1.png"
    lines[5] = "9 1 0 0 0 0 0 0 3 f2.png"
    path.write_text("\n".join(lines) + "\n")
    faults = opened(tmp_path).table(0).frame_faults
    assert [faults[frame].partition(":")[0] for frame in range(3)] == [
        "f0.png has no usable pose",
        "f1.png has no usable pose",
        "it has camera 3, which the model does not have",
    ]


@pytest.mark.parametrize("write", [write_text, write_binary])
def test_a_damaged_model_never_ends_in_another_error(tmp_path, write):
    write_images(tmp_path / "images", 4)
    write(tmp_path / "sparse")
    originals = {path: path.read_bytes() for path in sorted((tmp_path / "sparse").iterdir())}
    generator = np.random.default_rng(0)
    for turn in range(200):
        for path, original in originals.items():
            data = bytearray(original)
            if turn % 2:
                data = data[: generator.integers(len(data))]
            else:
                for place in generator.integers(0, len(data), 4):
                    data[place] = generator.integers(256)
            path.write_bytes(data)
        try:
            dataset = opened(tmp_path)
            dataset.read(0, [0])
        except (InputError, BrokenSceneError) as error:
            assert str(tmp_path) in str(error)  # noqa: PT017


@pytest.mark.parametrize("table", ["cameras.bin", "images.bin"])
def test_a_count_beyond_the_file_is_refused(tmp_path, table):
    write_images(tmp_path / "images", 4)
    write_binary(tmp_path / "sparse")
    path = tmp_path / "sparse" / table
    path.write_bytes(b"\xff" * 8 + path.read_bytes()[8:])
    with pytest.raises(InputError, match=rf"{table} is damaged, was it cut short"):
        opened(tmp_path)


def test_a_folder_without_a_model_is_refused(tmp_path):
    write_images(tmp_path / "images")
    with pytest.raises(InputError, match=r"no COLMAP model in .* looked for cameras\.bin or cameras\.txt"):
        opened(tmp_path)


def test_images_without_lines_of_points_are_all_there(tmp_path):
    write_images(tmp_path / "images")
    write_text(tmp_path / "sparse")
    table = tmp_path / "sparse" / "images.txt"
    with_points = opened(tmp_path).read(0, [0, 1, 3, 4])
    lines = [line for line in table.read_text().splitlines() if line.endswith(".png") or line.startswith("#")]
    table.write_text("\n".join(lines) + "\n")
    without = opened(tmp_path).read(0, [0, 1, 3, 4])
    np.testing.assert_array_equal(without.c2w, with_points.c2w)


@pytest.mark.parametrize("points", ["", "1.5 2.5 -1", "1 2 -1 3.5 4.5 77 5 6 8 1e2 3 4"])
def test_names_with_spaces_and_any_number_of_points(tmp_path, points):
    (tmp_path / "images").mkdir()
    for name in ("my 10.png", "x 1 2 y.png"):
        cv2.imwrite(str(tmp_path / "images" / name), np.zeros((*SIZE, 3), np.uint8))
    write_text(tmp_path / "sparse", images={"my 10.png": 0, "x 1 2 y.png": 1})
    table = tmp_path / "sparse" / "images.txt"
    lines = [line if "png" in line or "#" in line else points for line in table.read_text().splitlines()]
    table.write_text("\n".join(lines) + "\n")
    dataset = opened(tmp_path)
    assert dataset.num_frames(0) == 2
    assert not dataset.problems


@pytest.mark.parametrize("second", ["1 PINHOLE 32 24 25.6 26.4 16.0 12.0", "1 PINHOLE 32 24 99 99 16.0 12.0"])
def test_a_camera_that_is_there_twice_is_named_if_it_differs(tmp_path, second):
    write_images(tmp_path / "images")
    write_text(tmp_path / "sparse")
    cameras, images = tmp_path / "sparse" / "cameras.txt", tmp_path / "sparse" / "images.txt"
    cameras.write_text(f"{cameras.read_text()}2 PINHOLE 32 24 30 30 16 12\n{second}\n")
    images.write_text(images.read_text().replace(" 1 f4.png", " 2 f4.png"))
    dataset = opened(tmp_path)
    assert dataset.read(0, [4]).intrinsics[0, 0] == pytest.approx(30 / 32)
    if "99" in second:
        with pytest.raises(
            BrokenSceneError, match=r"frame 0: cameras\.txt has more than one camera 1, and they differ"
        ):
            dataset.read(0, [0])
    else:
        assert dataset.read(0, [0]).intrinsics[0, 0] == pytest.approx(0.8)


@WRITERS
def test_a_name_that_is_no_utf_8_spoils_nothing(tmp_path, write):
    write_images(tmp_path / "images")
    write(tmp_path / "sparse", images={"f4.png": 3, "f\u00fc.png": 0, "f1.png": 1})
    for table in (tmp_path / "sparse").iterdir():
        table.write_bytes(table.read_bytes().replace("\u00fc".encode(), b"\xfc"))
    dataset = opened(tmp_path)
    dataset.read(0, [1, 4])
    assert dataset.num_frames(0) == 6  # five files, and one image that is only in the model
    with pytest.raises(BrokenSceneError, match=r"f\udcfc.png is not in"):
        dataset.read(0, [5])
    os.rename(os.fsencode(tmp_path / "images" / "f2.png"), os.fsencode(tmp_path / "images") + b"/f\xfc.png")
    again = opened(tmp_path)
    assert again.num_frames(0) == 5
    assert again.read(0, [4]).images[0].max() == 2
