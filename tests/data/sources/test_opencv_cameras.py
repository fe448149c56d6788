"""Long-LRM's and official RayZer's prepared scenes are read in place."""

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from openrayzer.data.sources.opencv_cameras import OpencvCameras
from openrayzer.interfaces import BrokenSceneError, InputError

DIGITS = "0123456789abcdef" * 4


def opened(root: Path, **settings) -> OpencvCameras:
    dataset = OpencvCameras(root=root, **settings)
    dataset.open()
    return dataset


def keys(dataset: OpencvCameras) -> list[str]:
    return [dataset.key(scene) for scene in range(len(dataset))]


def write_scene(folder: Path, *, frames: int = 4, changes: tuple[tuple[int, dict], ...] = ()) -> Path:
    """Frame i has red i, and its camera is at z = -i."""
    (folder / "images_undistort").mkdir(parents=True)
    entries = []
    for frame in range(frames):
        cv2.imwrite(str(folder / f"images_undistort/frame{10 * frame}.png"), np.full((24, 32, 3), frame, np.uint8))
        w2c = np.eye(4)
        w2c[2, 3] = frame
        entries.append(
            {
                "file_path": f"images_undistort/frame{10 * frame}.png", "w2c": w2c.tolist(), "h": 24, "w": 32,
                "fx": 25.6, "fy": 26.4, "cx": 16.0, "cy": 12.0,
            }
        )  # fmt: skip
    for frame, change in changes:
        entries[frame] |= change
    (folder / "opencv_cameras.json").write_text(json.dumps({"scene_name": "any", "frames": entries}))
    return folder


def test_frames_are_those_written(tmp_path):
    write_scene(tmp_path / "mydesk")
    frames = opened(tmp_path).read(0, [3, 1])
    assert [int(image[0, 0, 0]) for image in frames.images] == [3, 1]
    np.testing.assert_allclose(frames.c2w[:, 2, 3], [-3, -1])
    np.testing.assert_allclose(frames.intrinsics[1], [0.8, 1.1, 0.5, 0.5], rtol=1e-6)


def test_a_list_is_relative_to_its_folder_and_names_scenes_as_their_folders(tmp_path):
    write_scene(tmp_path / "dl3dv_benchmark" / DIGITS)
    write_scene(tmp_path / "mine" / "desk")
    text = f"# both\n./dl3dv_benchmark/{DIGITS}/opencv_cameras.json\n\nmine/desk/opencv_cameras.json\nmine/gone.json\n"
    (tmp_path / "list.txt").write_text(text)
    dataset = opened(tmp_path / "list.txt")
    assert keys(dataset) == [DIGITS, "mine/desk"]
    assert "list.txt, line 5: there is no file" in dataset.problems[0]
    assert dataset.read(0, [2]).images[0][0, 0, 0] == 2
    assert keys(opened(tmp_path)) == [DIGITS, "mine/desk"]


def test_a_line_that_leaves_the_folder_needs_follow_links(tmp_path):
    write_scene(tmp_path / "else" / "a")
    write_scene(tmp_path / "here" / "b")
    lines = [f"{tmp_path}/else/a/opencv_cameras.json", "../else/a/opencv_cameras.json", "b/opencv_cameras.json"]
    (tmp_path / "here" / "list.txt").write_text("\n".join(lines))
    dataset = opened(tmp_path / "here" / "list.txt")
    assert keys(dataset) == ["b"]
    assert [problem.partition(": ")[0][-6:] for problem in dataset.problems] == ["line 1", "line 2"]
    dataset = opened(tmp_path / "here" / "list.txt", follow_links=True)
    assert keys(dataset) == ["a", "b"]
    assert dataset.read(0, [1]).images[0][0, 0, 0] == 1


FRAMES = {
    "absent": ({"file_path": "images_undistort/no.png"}, "there is no file images_undistort/no.png"),
    "traversal": ({"file_path": "../../../etc/passwd"}, "leaves the scene's folder"),
    "no focal": ({"fx": None}, "it has no fx"),
    "zero focal": ({"fy": 0}, "focal lengths 25.6 and 0 are not above 0"),
    "no size": ({"h": "tall"}, "its height is 'tall', not a number"),
    "half a pixel": ({"w": 31.5}, "its image size is 31.5 x 24"),
    "nan": ({"w2c": np.full((4, 4), np.nan).tolist()}, "numbers that are not finite"),
    "flat": ({"w2c": np.diag([1, 1, 0, 1]).tolist()}, "rotation is off by 1"),
}


@pytest.mark.parametrize("case", FRAMES)
def test_a_wrong_frame_is_missing_and_the_others_keep_their_numbers(tmp_path, case):
    write_scene(tmp_path / "a", changes=((1, FRAMES[case][0]),))
    dataset = opened(tmp_path)
    assert "scene 'a': 1 frame(s) marked missing, the first is frame 1: " in dataset.problems[0]
    assert FRAMES[case][1] in dataset.problems[0]
    assert [int(image[0, 0, 0]) for image in dataset.read(0, [0, 2, 3]).images] == [0, 2, 3]
    with pytest.raises(BrokenSceneError, match=r"opencv_cameras\.json: scene 'a', frame 1: "):
        dataset.read(0, [1])


def test_an_image_of_other_proportions_is_named(tmp_path):
    write_scene(tmp_path / "a", changes=((1, {"w": 40}),))
    with pytest.raises(
        BrokenSceneError, match=r"frame 1: .*its image has 32 x 24 pixels, but its camera is calibrated for 40 x 24"
    ):
        opened(tmp_path).read(0, [1])


def test_nothing_there_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"no scenes: looked for opencv_cameras\.json in"):
        opened(tmp_path)
    shutil.copy(__file__, tmp_path / "list.txt")
    with pytest.raises(InputError, match=r"no scenes: looked for opencv_cameras\.json in .*list\.txt; .*line 1"):
        opened(tmp_path / "list.txt")
