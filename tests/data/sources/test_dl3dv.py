"""DL3DV and nerfstudio scenes: cameras have OpenCV's axes, distortion is removed, frames keep their numbers."""

import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from openrayzer.data.sources.chunks import Chunks
from openrayzer.data.sources.dl3dv import Dl3dv
from openrayzer.interfaces import BrokenSceneError, Frames, InputError


def opened(root: Path, **settings) -> Dl3dv:
    dataset = Dl3dv(root=root, **settings)
    dataset.open()
    return dataset


def rotation(angle: float) -> np.ndarray:
    return np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])


def poses(count: int) -> np.ndarray:
    """Camera to world, OpenGL's axes."""
    c2w = np.tile(np.eye(4), (count, 1, 1))
    for frame in range(count):
        c2w[frame, :3, :3], c2w[frame, :3, 3] = rotation(0.1 * frame), [frame, 0.5, -frame]
    return c2w


def write_scene(
    folder: Path, *, count: int = 4, size: tuple[int, int] = (24, 32), images: str = "images_4", **changes
) -> dict:
    """A scene whose frame i has red i; transforms.json states four times the size."""
    (folder / images).mkdir(parents=True)
    for frame in range(count):
        picture = np.full((*size, 3), (7, 255 - frame, frame), np.uint8)
        cv2.imwrite(str(folder / images / f"frame_{frame + 1:05}.png"), picture)
    height, width = 4 * size[0], 4 * size[1]
    table = {
        "w": width, "h": height, "fl_x": 0.8 * width, "fl_y": 0.8 * width, "cx": 0.5 * width, "cy": 0.45 * height,
        "camera_model": "OPENCV",
        "frames": [
            {"file_path": f"images/frame_{frame + 1:05}.png", "transform_matrix": pose.tolist()}
            for frame, pose in enumerate(poses(count))
        ],
    } | changes  # fmt: skip
    (folder / "transforms.json").write_text(json.dumps(table))
    return table


def reds(frames: Frames) -> list[int]:
    return [int(image[0, 0, 0]) for image in frames.images]


def relative(c2w: np.ndarray) -> np.ndarray:
    return np.linalg.inv(c2w[0].astype(np.float64)) @ c2w


def test_cameras_look_where_they_looked(tmp_path):
    write_scene(tmp_path / "a")
    frames = opened(tmp_path).read(0, [2, 0])
    assert reds(frames) == [2, 0]
    np.testing.assert_allclose(frames.c2w[:, :3, 3], [[2, 0.5, -2], [0, 0.5, 0]])
    np.testing.assert_allclose(frames.c2w[1, :3, :3], np.diag([1, -1, -1]))
    np.testing.assert_allclose(frames.intrinsics[0], [0.8, 0.8 * 4 / 3, 0.5, 0.45], rtol=1e-6)
    assert frames.c2w.dtype == frames.intrinsics.dtype == np.float32


@pytest.mark.parametrize("size", [(24, 32), (32, 18)], ids=["wide", "upright"])
def test_frame_keeps_its_size(tmp_path, size):
    write_scene(tmp_path / "a", size=size)
    assert opened(tmp_path).read(0, [1]).images[0].shape == (*size, 3)


def test_frames_are_in_order_of_their_names_for_any_order_of_the_table(tmp_path):
    table = write_scene(tmp_path / "a")
    table["frames"] = [table["frames"][place] for place in (2, 0, 3, 1)]
    (tmp_path / "a/transforms.json").write_text(json.dumps(table))
    frames = opened(tmp_path).read(0, range(4))
    assert reds(frames) == [0, 1, 2, 3]
    np.testing.assert_allclose(frames.c2w[:, 0, 3], range(4))


def test_scenes_are_found_at_any_depth_and_named_for_their_place(tmp_path):
    digits = "0123456789abcdef" * 4
    write_scene(tmp_path / "1K" / digits / "nerfstudio")
    write_scene(tmp_path / "mine" / "kitchen_10")
    write_scene(tmp_path / "mine" / "kitchen_9")
    dataset = opened(tmp_path)
    assert [dataset.key(scene) for scene in range(3)] == [digits, "mine/kitchen_9", "mine/kitchen_10"]
    assert opened(tmp_path / "mine" / "kitchen_9").key(0) == "kitchen_9"
    assert dataset.problems == ()


@pytest.mark.parametrize(("reductions", "red"), [((4, 8, 1), 4), ((8, 4), 8), ((1, 4), 1), ((2, 4), 4)])
def test_image_folder_is_the_first_that_has_all_images(tmp_path, reductions, red):
    write_scene(tmp_path / "a", images="images_4", count=1)
    for folder, value in (("images_4", 4), ("images_8", 8), ("images", 1)):
        (tmp_path / "a" / folder).mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / "a" / folder / "frame_00001.png"), np.full((12, 16, 3), value, np.uint8))
    assert reds(opened(tmp_path, reductions=reductions).read(0, [0])) == [red]


@pytest.mark.parametrize(
    ("there", "red", "missing"),
    [
        ({"images_4": 1, "images_8": 3, "images": 3}, 8, 0),
        ({"images_4": 1, "images_8": 2, "images": 2}, 8, 1),
        ({"images_4": 2, "images_8": 1, "images": 3}, 1, 0),
    ],
)
def test_an_image_folder_that_lacks_images_gives_way(tmp_path, there, red, missing):
    write_scene(tmp_path / "a", count=3)
    for folder, count in there.items():
        (tmp_path / "a" / folder).mkdir(exist_ok=True)
        for frame in range(3):
            path = tmp_path / "a" / folder / f"frame_{frame + 1:05}.png"
            path.unlink(missing_ok=True)
            if frame < count:
                cv2.imwrite(str(path), np.full((12, 16, 3), int(folder[7:] or 1), np.uint8))
    dataset = opened(tmp_path)
    assert reds(dataset.read(0, range(3 - missing))) == [red] * (3 - missing)
    assert len(dataset.problems) == missing


def test_smaller_copies_may_be_of_another_kind(tmp_path):
    write_scene(tmp_path / "a", count=1)
    picture = tmp_path / "a/images_4/frame_00001.png"
    picture.write_bytes(cv2.imencode(".jpg", np.full((24, 32, 3), 99, np.uint8))[1].tobytes())
    picture.rename(picture.with_suffix(".jpg"))
    assert abs(reds(opened(tmp_path).read(0, [0]))[0] - 99) <= 1


def test_applied_transform_is_undone_and_changes_no_relative_pose(tmp_path):
    applied = np.array([[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, -1, 0.0]])
    moved = np.vstack([applied, [0, 0, 0, 1]]) @ poses(4)
    frames = [
        {"file_path": f"images/frame_{place + 1:05}.png", "transform_matrix": pose.tolist()}
        for place, pose in enumerate(moved)
    ]
    write_scene(tmp_path / "plain")
    write_scene(tmp_path / "with", frames=frames, applied_transform=applied.tolist())
    write_scene(tmp_path / "without", frames=frames)
    plain, stated, silent = (opened(tmp_path).read(scene, range(4)).c2w for scene in range(3))
    np.testing.assert_allclose(stated, plain, atol=1e-6)
    np.testing.assert_allclose(relative(silent), relative(plain), atol=1e-6)


def test_a_frame_may_have_a_camera_of_its_own(tmp_path):
    table = write_scene(tmp_path / "a")
    table["frames"][2] |= {"fl_x": 64.0, "fl_y": 64.0}
    (tmp_path / "a/transforms.json").write_text(json.dumps(table))
    np.testing.assert_allclose(opened(tmp_path).read(0, [1, 2]).intrinsics[:, 0], [0.8, 0.5])


def test_field_of_view_stands_for_a_focal_length(tmp_path):
    table = write_scene(tmp_path / "a")
    for name in ("fl_x", "fl_y", "cx", "cy"):
        del table[name]
    (tmp_path / "a/transforms.json").write_text(json.dumps(table | {"camera_angle_x": np.pi / 2}))
    np.testing.assert_allclose(opened(tmp_path).read(0, [0]).intrinsics[0], [0.5, 2 / 3, 0.5, 0.5], rtol=1e-6)


FISHEYE = {"k1": 0.2, "k2": 0.05, "fl_x": 64.0, "fl_y": 64.0}


@pytest.mark.parametrize("stated", [{"camera_model": None}, {"camera_model": "OPENCV_FISHEYE"}])
def test_a_fisheye_may_be_stated_in_several_ways(tmp_path, stated):
    write_scene(tmp_path / "a", **FISHEYE, camera_model="OPENCV_FISHEYE")
    write_scene(tmp_path / "b", **FISHEYE, **stated, is_fisheye=True)
    table = write_scene(tmp_path / "c", **FISHEYE, camera_model=None)
    table["frames"][1] |= {"is_fisheye": True}
    (tmp_path / "c/transforms.json").write_text(json.dumps(table))
    dataset = opened(tmp_path)
    fisheye = dataset.read(0, [1]).intrinsics
    assert [lens.model for lens in dataset.table(2).lenses] == ["opencv", "fisheye", "opencv", "opencv"]
    for scene in (1, 2):
        np.testing.assert_array_equal(dataset.read(scene, [1]).intrinsics, fisheye)
    assert np.abs(dataset.read(2, [0]).intrinsics - fisheye).max() > 1e-3


WRONG = {  # change of a scene of four frames, and part of the message
    "no frames": ({"frames": []}, "it lists no frames"),
    "frames is no list": ({"frames": {"a": 1}}, "it lists no frames"),
    "no width": ({"w": None}, "it has no width"),
    "zero size": ({"h": 0}, "its image size is 128 x 0"),
    "zero focal": ({"fl_x": 0}, "its focal lengths 0 and 102.4 are not above 0"),
    "focal is text": ({"fl_x": "long"}, "its fl_x is 'long', not a number"),
    "focal is nan": ({"fl_y": float("nan")}, "its fl_y is nan, not a number"),
    "huge number": ({"cx": 10**400}, "its cx is 1"),
    "model": ({"camera_model": "EQUIRECTANGULAR"}, "its camera_model is 'EQUIRECTANGULAR'; known: FULL_OPENCV"),
    "fisheye": ({"is_fisheye": True}, "its is_fisheye is True, but its camera_model OPENCV"),
    "fisheye is text": ({"is_fisheye": "no"}, "its is_fisheye is 'no', but its camera_model OPENCV"),
    "applied": (
        {"applied_transform": [[2, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]]},
        "its applied_transform is not a rigid motion",
    ),
    "all frames bad": ({"frames": [1, None]}, "no frame can be used; frame 0: None is not a file name"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_scene_is_left_out_and_named(tmp_path, case):
    write_scene(tmp_path / "good")
    write_scene(tmp_path / "wrong", **WRONG[case][0])
    dataset = opened(tmp_path)
    assert [dataset.key(scene) for scene in range(len(dataset))] == ["good"]
    assert f"scene 'wrong' is left out: {WRONG[case][1]}" in dataset.problems[0]
    trusting = opened(tmp_path, scan_limit=0)
    if case != "all frames bad":
        with pytest.raises(BrokenSceneError, match="'wrong' is left out"):
            trusting.num_frames(1)


@pytest.mark.parametrize("text", ["", "{", "[]", '"x"', "[" * 100_000, "{" * 100_000, "\xff"])
def test_a_table_that_is_no_json_is_named(tmp_path, text):
    write_scene(tmp_path / "a")
    (tmp_path / "a/transforms.json").write_text(text, encoding="latin1")
    with pytest.raises(InputError, match=r"transforms\.json: scene 'a' is left out: it (is not JSON|holds a)"):
        opened(tmp_path)


SKEWED = np.eye(4)
SKEWED[0, 1] = 0.1
FAR = np.eye(4)
FAR[0, 3] = 1e39
FRAMES = {  # replacement of frame 2, and part of its message
    "absent": ({"file_path": "images/frame_9.png"}, "frame_9.png is not in images_4"),
    "no folder": ({"file_path": "photos/frame_9.png"}, "none of the folders photos_4, photos_8, photos, photos_2"),
    "no name": ({"file_path": None}, "None is not a file name"),
    "number": ({"file_path": 3}, "3 is not a file name"),
    "zero byte": ({"file_path": "images/a\0.png"}, "is not a file name"),
    "traversal": ({"file_path": "../../../etc/passwd"}, "leaves the scene's folder"),
    "backslashes": ({"file_path": "..\\..\\x.png"}, "leaves the scene's folder"),
    "absolute": ({"file_path": "/etc/hostname"}, "leaves the scene's folder"),
    "nan": ({"transform_matrix": np.full((4, 4), np.nan).tolist()}, "numbers that are not finite"),
    "skewed": ({"transform_matrix": SKEWED.tolist()}, "rotation is off by 0.1"),
    "mirrored": ({"transform_matrix": np.diag([1, 1, -1, 1]).tolist()}, "mirror image"),
    "shape": ({"transform_matrix": [[1, 2], [3, 4]]}, "its pose has shape (2, 2)"),
    "ragged": ({"transform_matrix": [[1, 2], [3]]}, "its pose is not a matrix"),
    "projective": ({"transform_matrix": [*np.eye(4)[:3].tolist(), [0, 0, 1, 1]]}, "last row"),
    "no pose": ({"transform_matrix": None}, "its pose"),
    "beyond float32": ({"transform_matrix": FAR.tolist()}, "numbers that are not finite (as float32)"),
    "below float32": ({"fl_x": 1e-300, "fl_y": 1}, "its focal lengths 0 and 0.0104 are not above 0 (as float32)"),
    "camera": ({"fl_x": -3, "fl_y": 1}, "focal lengths -3 and 1 are not above 0"),
}


@pytest.mark.parametrize("case", FRAMES)
def test_a_wrong_frame_is_missing_and_the_others_keep_their_numbers(tmp_path, case):
    changes, fault = FRAMES[case]
    table = write_scene(tmp_path / "a")
    table["frames"][2] |= changes
    (tmp_path / "a/transforms.json").write_text(json.dumps(table))
    dataset = opened(tmp_path)
    assert dataset.num_frames(0) == 4
    wrong = 3 if case in ("absent", "no folder") else 2  # where the stated name sorts
    assert f"scene 'a': 1 frame(s) marked missing, the first is frame {wrong}: " in dataset.problems[0]
    assert fault in dataset.problems[0]
    good = [frame for frame in range(4) if frame != wrong]
    assert reds(dataset.read(0, good)) == [0, 1, 3]
    with pytest.raises(BrokenSceneError, match=rf"scene 'a', frame {wrong}: ") as caught:
        dataset.read(0, [0, wrong])
    assert fault in str(caught.value)


def test_a_frame_listed_twice_comes_once(tmp_path):
    table = write_scene(tmp_path / "a")
    table["frames"].insert(1, table["frames"][3])
    (tmp_path / "a/transforms.json").write_text(json.dumps(table))
    dataset = opened(tmp_path)
    assert reds(dataset.read(0, range(4))) == [0, 1, 2, 3]
    with pytest.raises(BrokenSceneError, match=r"frame 4: images_4/frame_00004\.png is frame 3 and is listed again"):
        dataset.read(0, [4])


def damaged_image(path: Path, kind: str) -> None:
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "link":
        path.symlink_to("/etc/hostname")
    elif kind == "size":
        cv2.imwrite(str(path), np.zeros((24, 40, 3), np.uint8))
    else:
        path.write_bytes(b"" if kind == "empty" else b"no image")


@pytest.mark.parametrize(
    ("kind", "fault"),
    [
        ("empty", "it has no bytes"),
        ("text", "neither JPEG nor PNG nor WebP"),
        ("pipe", "not a regular file"),
        ("link", "it is a link to /etc/hostname, outside of"),
        ("size", "its image has 40 x 24 pixels, but its camera is calibrated for 128 x 96"),
    ],
)
def test_a_wrong_image_is_named_when_it_is_read(tmp_path, kind, fault):
    write_scene(tmp_path / "a")
    damaged_image(tmp_path / "a/images_4/frame_00003.png", kind)
    dataset = opened(tmp_path)
    assert reds(dataset.read(0, [1, 3])) == [1, 3]
    with pytest.raises(BrokenSceneError, match=r"scene 'a', frame 2: images_4/frame_00003\.png: ") as caught:
        dataset.read(0, [2])
    assert fault in str(caught.value)


@pytest.mark.parametrize("frame", [-1, 4])
def test_frame_beyond_the_scene_is_named(tmp_path, frame):
    write_scene(tmp_path / "a")
    with pytest.raises(BrokenSceneError, match=rf"frame {frame}: the scene has 4 frames"):
        opened(tmp_path).read(0, [frame])


def test_links_out_of_the_root_need_follow_links(tmp_path):
    write_scene(tmp_path / "elsewhere" / "b")
    write_scene(tmp_path / "root" / "a")
    (tmp_path / "root" / "b").symlink_to(tmp_path / "elsewhere" / "b")
    (tmp_path / "root" / "round").symlink_to(tmp_path / "root")
    dataset = opened(tmp_path / "root")
    assert len(dataset) == 1
    assert "root/b is left out: a link to" in dataset.problems[0]
    dataset = opened(tmp_path / "root", follow_links=True)
    assert [dataset.key(scene) for scene in range(len(dataset))] == ["a", "b"]
    assert reds(dataset.read(1, [3])) == [3]


def test_missing_root_and_empty_root_have_different_messages(tmp_path):
    with pytest.raises(InputError, match=r"there is no folder .*no/where; the nearest that exists is"):
        opened(tmp_path / "no" / "where")
    with pytest.raises(InputError, match=r"no scenes: looked for transforms\.json in"):
        opened(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is a file, not a folder"):
        opened(tmp_path / "file")


EXPECTED = {  # case: (readable frames, part of the message)
    "missing_image": ([0, 2, 3], "1 frame(s) marked missing, the first is frame 1: frame_00002.png is not in images_8"),
    "path_traversal": (
        [0, 2, 3],
        "1 frame(s) marked missing, the first is frame 1: its file name '../../../../../../etc/hostname' leaves",
    ),
    "no_focal": ([], "'no_focal' is left out: it has no fl_x"),
    "cut_json": ([], "'cut_json' is left out: it is not JSON, was it cut short?"),
    "nan_matrix": ([0, 1, 3], "1 frame(s) marked missing, the first is frame 2: its camera has numbers that are not"),
    "duplicate_frame": (
        [0, 1, 2, 3],
        "1 frame(s) marked missing, the first is frame 4: images_8/frame_00001.png is frame 0 and is listed again",
    ),
}


@pytest.mark.parametrize("case", EXPECTED)
def test_published_bad_scenes(shared_data, case):
    readable, report = EXPECTED[case]
    dataset = Dl3dv(root=shared_data / "bad" / "dl3dv" / case)
    said = []
    try:
        dataset.open()
    except InputError as error:
        said.append(str(error))
    found = []
    for scene in range(len(dataset)):
        for frame in range(dataset.num_frames(scene)):
            try:
                dataset.read(scene, [frame])
                found.append(frame)
            except BrokenSceneError as error:
                said.append(str(error))
    assert found == readable
    assert report in "\n".join([*said, *dataset.problems])


def test_published_bad_scenes_are_all_expected(shared_data):
    cases = json.loads((shared_data / "bad" / "MANIFEST.json").read_text(encoding="utf-8"))["cases"]
    assert {case.removeprefix("dl3dv/") for case in cases if case.startswith("dl3dv/")} == set(EXPECTED)


def as_seen_by(image: np.ndarray, intrinsics: np.ndarray, other: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """An image seen by a camera at the same position with other intrinsics."""
    height, width = size
    rows, columns = np.mgrid[:height, :width] + 0.5
    x = (columns / width - other[2]) / other[0] * intrinsics[0] + intrinsics[2]
    y = (rows / height - other[3]) / other[1] * intrinsics[1] + intrinsics[3]
    place = [x * image.shape[1] - 0.5, y * image.shape[0] - 0.5]
    return cv2.remap(image, *(axis.astype(np.float32) for axis in place), cv2.INTER_LINEAR)


@pytest.mark.parametrize("name", ["mydesk_001", "redkitchen_000"])
def test_the_same_scene_as_chunk_and_as_downloaded_agree(shared_data, name):
    raw = opened(shared_data / "dl3dv_style")
    chunks = Chunks(root=shared_data / "re10k_style")
    chunks.open()
    ours = raw.read([raw.key(scene) for scene in range(len(raw))].index(f"{name}_raw"), range(0, 16, 3))
    theirs = chunks.read([chunks.key(scene) for scene in range(len(chunks))].index(name), range(0, 16, 3))
    # the chunk has float32 matrices in another world frame
    np.testing.assert_allclose(relative(ours.c2w), relative(theirs.c2w), atol=2e-5)
    # the maker of the chunk kept the border of the longer side when removing distortion, so fx differs by 0.5 %
    np.testing.assert_allclose(ours.intrinsics, theirs.intrinsics, rtol=5e-3)
    for mine, their in zip(range(6), theirs.images, strict=True):
        seen = as_seen_by(ours.images[mine], ours.intrinsics[mine], theirs.intrinsics[mine], their.shape[:2])
        inner = np.s_[8:-8, 8:-8]  # the chunk has a slightly larger field of view
        difference = cv2.GaussianBlur(seen, (5, 5), 0)[inner].astype(float) - cv2.GaussianBlur(their, (5, 5), 0)[inner]
        assert np.abs(difference).mean() < 2.0
        shift, _ = cv2.phaseCorrelate(
            *(cv2.cvtColor(i[inner], cv2.COLOR_RGB2GRAY).astype(float) for i in (seen, their))
        )
        assert np.abs(shift).max() < 0.1  # pixels
