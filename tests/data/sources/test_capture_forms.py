"""Every form in which people keep images with cameras gives the cameras and the images that were written."""

import json
from collections.abc import Callable
from pathlib import Path

import capture_writers
import cv2
import numpy as np
import pytest
from capture_writers import FREE, PLAIN_FOCAL

from openrayzer.interfaces import DATASETS, BrokenSceneError, Dataset, InputError

HEIGHT, WIDTH, FRAMES = 24, 32, 12
"""More than ten frames, so that plain and natural order of the file names differ."""

FORMS = {  # writer: dataset, whether the form states any intrinsics
    "nerfstudio": ("transforms", True),
    "instant_ngp": ("transforms", False),
    "arkit": ("transforms", True),
    "blender": ("transforms", False),
    "scannetpp": ("scannetpp", True),
    "llff": ("llff", False),
    "mapfree": ("mapfree", True),
    "polycam": ("polycam", True),
    "record3d": ("record3d", True),
    "co3d": ("co3d", True),
}


def poses() -> np.ndarray:
    """Camera to world (f, 4, 4): a turn about two axes and a walk."""
    c2w = np.tile(np.eye(4), (FRAMES, 1, 1))
    for frame in range(FRAMES):
        c2w[frame, :3, :3] = cv2.Rodrigues(np.array([0.05 * frame, 0.1 - 0.07 * frame, 0.02 * frame]))[0]
        c2w[frame, :3, 3] = [0.1 * frame, -0.2, 0.03 * frame * frame]
    return c2w


def images() -> np.ndarray:
    """Frame i has red 20 i; (f, h, w, 3) in OpenCV's channel order."""
    pictures = np.full((FRAMES, HEIGHT, WIDTH, 3), 90, np.uint8)
    pictures[..., 2] = 20 * np.arange(FRAMES)[:, None, None]
    return pictures


def write(form: str, folder: Path) -> Path:
    """A scene in this form; returns the root."""
    getattr(capture_writers, form)(folder / "things" / "desk", poses(), images())
    return folder


def opened(name: str, root: Path, **settings) -> Dataset:
    dataset = DATASETS[name](root=root, **settings)
    dataset.open()
    return dataset


def reds(dataset: Dataset, frames: range) -> list[int]:
    return [int(image[5, 5, 0]) for image in dataset.read(0, frames).images]


@pytest.mark.parametrize("form", FORMS)
def test_cameras_and_images_are_those_that_were_written(tmp_path, form):
    name, free = FORMS[form]
    dataset = opened(name, write(form, tmp_path))
    assert (dataset.problems, dataset.key(0), dataset.num_frames(0)) == ((), "things/desk", FRAMES)
    frames = dataset.read(0, range(FRAMES))
    np.testing.assert_allclose(frames.c2w, poses(), atol=1e-6)
    sides = np.array([WIDTH, HEIGHT, WIDTH, HEIGHT])
    stated = FREE if free else (PLAIN_FOCAL, PLAIN_FOCAL, WIDTH / 2, HEIGHT / 2)
    if form == "scannetpp":  # without coefficients the lens is still a fisheye, and its image becomes that of a pinhole
        assert dataset.table(0).lenses[0].model == "fisheye"
        zoom = frames.intrinsics[0, 0] * WIDTH / FREE[0]
        stated = (zoom * FREE[0], zoom * FREE[1], *FREE[2:])
    np.testing.assert_allclose(frames.intrinsics, np.tile(stated / sides, (FRAMES, 1)), rtol=1e-5)
    np.testing.assert_allclose(reds(dataset, range(FRAMES)), 20 * np.arange(FRAMES), atol=3)


@pytest.mark.parametrize("form", FORMS)
def test_a_scene_itself_may_be_the_root(tmp_path, form):
    dataset = opened(FORMS[form][0], write(form, tmp_path) / "things" / ("" if form == "co3d" else "desk"))
    assert dataset.key(0) == "desk"
    np.testing.assert_allclose(dataset.read(0, [FRAMES - 1]).c2w[0], poses()[-1], atol=1e-6)


@pytest.mark.parametrize("form", FORMS)
def test_a_folder_with_images_and_no_cameras_is_named(tmp_path, form):
    root = write(form, tmp_path)
    capture_writers.write_images(root / "more" / "other" / "images_4", ["1.png"], images()[:1])
    dataset = opened(FORMS[form][0], root)
    assert len(dataset) == 1
    (problem,) = dataset.problems
    assert problem.startswith(f"{root}/more/other: images and no ")


@pytest.mark.parametrize(("form", "step"), [("arkit", 250_000), ("record3d", 125_000), ("co3d", 500_000)])
def test_times_are_in_microseconds(tmp_path, form, step):
    times = opened(FORMS[form][0], write(form, tmp_path)).origin(0).timestamps
    assert (times.dtype, np.unique(np.diff(times)).tolist(), len(times)) == (np.int64, [step], FRAMES)


def test_without_times_there_are_none(tmp_path):
    assert opened("transforms", write("nerfstudio", tmp_path)).origin(0).timestamps.size == 0


@pytest.mark.parametrize(
    ("split", "first", "count"), [("test", 0, 2), ("train", 2, FRAMES - 3), ("val", FRAMES - 1, 1)]
)
def test_splits_of_blender_have_their_frames(tmp_path, split, first, count):
    dataset = opened("transforms", write("blender", tmp_path), split=split)
    assert dataset.num_frames(0) == count
    np.testing.assert_allclose(dataset.read(0, range(count)).c2w, poses()[first : first + count], atol=1e-6)


def test_splits_of_nerfstudio_are_lists_of_file_names(tmp_path):
    root = write("nerfstudio", tmp_path)
    path = root / "things/desk/transforms.json"
    table = json.loads(path.read_text()) | {"test_filenames": ["images/frame_00003.png", "images/frame_00007.png"]}
    path.write_text(json.dumps(table))
    assert reds(opened("transforms", root, split="test"), range(2)) == [60, 140]
    with pytest.raises(InputError, match="it has no split 'val': neither val_filenames in"):
        opened("transforms", root, split="val")
    with pytest.raises(InputError, match=r"split must be a name such as train, got '\.\./test'"):
        opened("transforms", root, split="../test")


def test_splits_of_scannetpp_are_two_lists(tmp_path):
    root = write("scannetpp", tmp_path)
    assert [opened("scannetpp", root, split=split).num_frames(0) for split in ("train", "test")] == [FRAMES - 1, 1]
    with pytest.raises(InputError, match="split must be train, test or null, got 'val'"):
        opened("scannetpp", root, split="val")


@pytest.mark.parametrize(("background", "behind"), [("white", 255), ("black", 0)])
def test_transparent_pixels_get_the_background(tmp_path, background, behind):
    root = write("blender", tmp_path)
    picture = np.full((HEIGHT, WIDTH, 4), 100, np.uint8)
    picture[:, :8, 3], picture[:, 8:16, 3], picture[:, 16:, 3] = 0, 51, 255  # alpha 0, 0.2 and 1
    cv2.imwrite(str(root / "things/desk/train/r_0.png"), picture)
    dataset = opened("transforms", root, split="train", background=background)
    row = dataset.read(0, [0]).images[0][0, :, 1]
    assert [int(row[place]) for place in (3, 12, 30)] == [behind, round(0.2 * 100 + 0.8 * behind), 100]


def test_cached_frames_depend_on_the_background(tmp_path):
    root = write("blender", tmp_path)
    white, black = (opened("transforms", root, background=background) for background in ("white", "black"))
    assert white.version(0, 0) != black.version(0, 0)


def edited(path: Path, change: Callable[[dict], None]) -> None:
    table = json.loads(path.read_text())
    change(table)
    path.write_text(json.dumps(table))


NGP = {  # change of instant-ngp's table, and part of the message
    "no angle": (lambda table: table.pop("camera_angle_x"), "it has no fl_x and no camera_angle_x"),
    "wide": (lambda table: table.update(camera_angle_x=3.5), "its camera_angle_x is 3.5, not between 0 and pi radians"),
    "degrees": (lambda table: table.update(camera_angle_x=60), "its camera_angle_x is 60, not between 0 and pi"),
    "f-theta": (lambda table: table.update(ftheta_p0=0.1), "its lens has the key ftheta_p0"),
    "model": (lambda table: table.update(camera_model="THIN_PRISM"), "its camera_model is 'THIN_PRISM'; known: "),
    "half a size": (lambda table: table.update(w=32), "it has no height"),
    "distortion": (lambda table: table.update(k1="strong"), "its k1 is 'strong', not a number"),
}


@pytest.mark.parametrize("case", NGP)
def test_a_wrong_table_is_named(tmp_path, case):
    change, message = NGP[case]
    root = write("instant_ngp", tmp_path)
    edited(root / "things/desk/transforms.json", change)
    with pytest.raises(InputError, match=r"transforms\.json: scene 'things/desk' is left out: ") as caught:
        opened("transforms", root)
    assert message in str(caught.value)


def test_without_a_usable_image_the_size_is_unknown(tmp_path):
    root = write("instant_ngp", tmp_path)
    for path in (root / "things/desk/images").iterdir():
        path.write_bytes(b"no image")
    with pytest.raises(InputError, match="it has no w and h, and no image gives the size: images/0000"):
        opened("transforms", root)


def test_the_size_of_the_images_counts_in_full_size(tmp_path):
    """Focal lengths in pixels belong to the stated images, although only images of half the size are there."""
    root = write("nerfstudio", tmp_path)
    (root / "things/desk/images").rename(root / "things/desk/images_2")
    edited(root / "things/desk/transforms.json", lambda table: [table.pop(key) for key in ("w", "h")])
    sides = 2 * np.array([WIDTH, HEIGHT, WIDTH, HEIGHT])
    np.testing.assert_allclose(opened("transforms", root).read(0, [0]).intrinsics[0], FREE / sides, rtol=1e-6)


def test_an_angle_in_y_makes_pixels_that_are_not_square(tmp_path):
    root = write("instant_ngp", tmp_path)
    angle = 2 * np.arctan(HEIGHT / 2 / 20)
    edited(root / "things/desk/transforms.json", lambda table: table.update(camera_angle_y=angle))
    intrinsics = opened("transforms", root).read(0, [0]).intrinsics[0]
    np.testing.assert_allclose(intrinsics[:2], [PLAIN_FOCAL / WIDTH, 20 / HEIGHT], rtol=1e-6)


def singular(table: dict) -> None:
    table["frames"][0]["transform_matrix"] = np.diag([1, 1, 0, 1]).tolist()


def test_a_singular_matrix_is_a_missing_frame(tmp_path):
    root = write("nerfstudio", tmp_path)
    edited(root / "things/desk/transforms.json", singular)
    with pytest.raises(BrokenSceneError, match="frame 0: its camera's rotation is off by 1"):
        opened("transforms", root).read(0, [0])


def test_frames_that_scannetpp_marks_as_bad_are_missing(tmp_path):
    root = write("scannetpp", tmp_path)
    path = root / "things/desk/dslr/nerfstudio/transforms.json"
    edited(path, lambda table: table["frames"][4].update(is_bad=True))
    dataset = opened("scannetpp", root)
    assert "1 frame(s) marked missing, the first is frame 4: resized_images/DSC00004.JPG" in dataset.problems[0]


def test_an_llff_table_with_another_number_of_cameras_is_named(tmp_path):
    root = write("llff", tmp_path)
    (root / "things/desk/images_2/IMG_003.png").unlink()
    with pytest.raises(InputError, match=r"has 12 cameras, but no folder has as many images: .*images_2 has 11"):
        opened("llff", root)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (np.zeros((3, 14)), r"has shape \[3, 14\], not \[n, 17\]"),
        (np.full((3, 17), "a"), "holds <U1, not numbers"),
        (np.array([{}], object), "is not an array of NumPy"),
    ],
    ids=["shape", "text", "objects"],
)
def test_an_llff_table_of_another_kind_is_named(tmp_path, content, message):
    root = write("llff", tmp_path)
    np.save(root / "things/desk/poses_bounds.npy", content, allow_pickle=True)
    with pytest.raises(InputError, match=message):
        opened("llff", root)


def test_mapfree_frames_without_a_pose_are_missing(tmp_path):
    root = write("mapfree", tmp_path)
    path = root / "things/desk/poses.txt"
    lines = [line for line in path.read_text().splitlines() if "seq1/frame_00001" not in line]
    path.write_text("\n".join([*lines[1:], "seq1/frame_00005.png 0 0 0 0 0 0 0"]))
    faults = opened("mapfree", root).table(0).frame_faults
    assert faults == {
        7: "poses.txt has no line for seq1/frame_00001.png",
        11: "seq1/frame_00005.png has no pose: poses.txt holds zeros",
    }


def test_optimised_cameras_of_polycam_come_first(tmp_path):
    root = write("polycam", tmp_path)
    keyframes = root / "things/desk/keyframes"
    for name in ("images", "cameras"):
        (keyframes / name).rename(keyframes / f"corrected_{name}")
        (keyframes / name).mkdir()
    (keyframes / "corrected_cameras" / "3.json").unlink()
    dataset = opened("polycam", root)
    assert "frame 3: corrected_images/3.png has no camera: there is no corrected_cameras/3.json" in dataset.problems[0]
    np.testing.assert_allclose(dataset.read(0, [4]).c2w[0], poses()[4], atol=1e-6)


def test_record3d_takes_the_intrinsics_of_each_frame(tmp_path):
    root = write("record3d", tmp_path)
    own = [[20 + frame, 21 + frame, 15, 13] for frame in range(FRAMES)]
    edited(root / "things/desk/metadata.json", lambda table: table.update(perFrameIntrinsicCoeffs=own))
    (root / "things/desk/rgb/2.png").unlink()
    dataset = opened("record3d", root)
    assert "frame 2: there is no image with number 2" in dataset.problems[0]
    np.testing.assert_allclose(dataset.read(0, [5]).intrinsics[0, :2], [25 / WIDTH, 26 / HEIGHT], rtol=1e-6)


def test_annotations_of_co3d_may_be_relative_to_each_side(tmp_path):
    root = write("co3d", tmp_path)
    path = root / "things/frame_annotations.jgz"
    frames = json.loads(capture_writers.gzip.decompress(path.read_bytes()))
    fx, fy, cx, cy = FREE
    for frame in frames:
        frame["viewpoint"] |= {
            "focal_length": [2 * fx / WIDTH, 2 * fy / HEIGHT],
            "principal_point": [1 - 2 * cx / WIDTH, 1 - 2 * cy / HEIGHT],
            "intrinsics_format": "ndc_norm_image_bounds",
        }
    frames[3]["viewpoint"]["T"] = None
    path.write_bytes(capture_writers.gzip.compress(json.dumps(frames).encode()))
    dataset = opened("co3d", root)
    assert "1 frame(s) marked missing, the first is frame 3: it has no T" in dataset.problems[0]
    np.testing.assert_allclose(
        dataset.read(0, [4]).intrinsics[0], FREE / np.array([WIDTH, HEIGHT, WIDTH, HEIGHT]), rtol=1e-6
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no gzip", "cannot be unpacked"),
        (capture_writers.gzip.compress(b'[{"a": 1}, {'), "is not JSON, was it cut short"),
        (capture_writers.gzip.compress(b"3"), "is no list"),
        (capture_writers.gzip.compress(b"[]"), "has no frames of this sequence"),
    ],
    ids=["no gzip", "cut", "number", "empty"],
)
def test_annotations_of_co3d_of_another_kind_are_named(tmp_path, content, message):
    root = write("co3d", tmp_path)
    (root / "things/frame_annotations.jgz").write_bytes(content)
    with pytest.raises(InputError, match=f"scene 'things/desk' is left out: frame_annotations.jgz {message}"):
        opened("co3d", root)


def test_published_dialects_have_their_right_values(shared_data):
    dialects = shared_data / "dialects"
    if not dialects.is_dir():
        pytest.skip(f"needs {dialects}")
    pixels = np.array([160, 90, 160, 90])
    right = {"instant_ngp": (138.2028, 138.2028, 80, 45), "instant_ngp_angles": (138.2028, 138.3876, 80, 45)}
    stated = {entry["file_path"][-8:-4]: entry for entry in _frames(dialects / "instant_ngp/desk/transforms.json")}
    for name, intrinsics in right.items():
        dataset = opened("transforms", dialects / name)
        assert (len(dataset), dataset.num_frames(0), dataset.problems) == (1, 10, ())
        frames = dataset.read(0, range(10))
        np.testing.assert_allclose(frames.intrinsics * pixels, np.tile(intrinsics, (10, 1)), rtol=1e-5)
        opengl = np.array([stated[f"{frame:04}"]["transform_matrix"] for frame in range(10)])
        np.testing.assert_allclose(frames.c2w, opengl * [1, -1, -1, 1], atol=1e-6)
    for split, count in (("train", 6), ("val", 2), ("test", 2)):
        for background, behind in (("white", 255), ("black", 0)):
            dataset = opened("transforms", dialects / "blender", split=split, background=background)
            assert dataset.num_frames(0) == count
            assert (dataset.read(0, [0]).images[0][:, :20] == behind).all()
    dataset = opened("dl3dv", dialects / "missing_transforms")
    assert [dataset.key(scene) for scene in range(len(dataset))] == ["scene_a"]
    assert dataset.problems == (f"{dialects}/missing_transforms/scene_b: images and no transforms.json",)


def _frames(path: Path) -> list[dict]:
    return json.loads(path.read_text())["frames"]
