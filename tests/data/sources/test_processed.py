"""LVSM's processed folders are read at their present place, which may differ from the paths in them."""

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from openrayzer.data.sources.processed import Processed
from openrayzer.interfaces import BrokenSceneError, InputError


def opened(root: Path, **settings) -> Processed:
    dataset = Processed(root=root, **settings)
    dataset.open()
    return dataset


def keys(dataset: Processed) -> list[str]:
    return [dataset.key(scene) for scene in range(len(dataset))]


def write_root(root: Path, *names: str, stated: Path | str | None = None, frames: int = 4) -> Path:
    """The output of process_data.py: frame i has red i, x = i, and a rotation about y by 0.1 i."""
    stated = root if stated is None else stated
    (root / "metadata").mkdir(parents=True)
    for name in names:
        entries = []
        (root / "images" / name).mkdir(parents=True)
        for frame in range(frames):
            cv2.imwrite(str(root / f"images/{name}/{frame:05}.png"), np.full((24, 32, 3), frame, np.uint8))
            c2w = np.eye(4)
            c2w[:3, :3] = cv2.Rodrigues(np.array([0, 0.1 * frame, 0]))[0]
            c2w[0, 3] = frame
            entries.append(
                {
                    "image_path": f"{stated}/images/{name}/{frame:05}.png",
                    "fxfycxcy": [25.6, 26.4, 16.0, 12.0],
                    "w2c": np.linalg.inv(c2w).tolist(),
                }
            )
        table = {"scene_name": name, "frames": entries}
        (root / f"metadata/{name}.json").write_text(json.dumps(table, indent=4))
    (root / "full_list.txt").write_text("\n".join(f"{stated}/metadata/{name}.json" for name in names))
    return root


def change_frame(root: Path, name: str, frame: int, changes: object) -> None:
    path = root / f"metadata/{name}.json"
    table = json.loads(path.read_text())
    table["frames"][frame] = table["frames"][frame] | changes if isinstance(changes, dict) else changes
    path.write_text(json.dumps(table))


STATED = [None, "/somewhere/else/train", "out/train", "../out/train"]


@pytest.mark.parametrize("stated", STATED)
def test_frames_are_those_written_for_any_stated_folder(tmp_path, stated):
    dataset = opened(write_root(tmp_path / "train", "b", "a", stated=stated))
    assert keys(dataset) == ["b", "a"]
    assert dataset.problems == ()
    frames = dataset.read(1, [3, 0])
    assert [int(image[0, 0, 0]) for image in frames.images] == [3, 0]
    np.testing.assert_allclose(frames.c2w[0, :3, 3], [3, 0, 0], atol=1e-6)
    np.testing.assert_allclose(frames.c2w[0, 0, 2], np.sin(0.3), atol=1e-6)
    np.testing.assert_allclose(frames.intrinsics[0], [0.8, 1.1, 0.5, 0.5], rtol=1e-6)


def test_a_moved_folder_is_read_where_it_is(tmp_path):
    root = write_root(tmp_path / "old", "a")
    shutil.move(root, tmp_path / "new")
    assert opened(tmp_path / "new").read(0, [2]).images[0][0, 0, 0] == 2


def test_a_list_has_comments_blank_lines_and_repetitions(tmp_path):
    root = write_root(tmp_path / "train", "a", "b", "c")
    lines = ["# some", "", f"{root}/metadata/c.json", "  metadata/a.json  ", "metadata/a.json", "metadata/gone.json"]
    (root / "mine.txt").write_text("\n".join(lines))
    dataset = opened(root / "mine.txt")
    assert keys(dataset) == ["c", "a"]
    assert "mine.txt, line 6: there is no file metadata/gone.json" in dataset.problems[0]


def test_two_scenes_of_one_name_are_not_mixed_up(tmp_path):
    root = write_root(tmp_path / "train", "a")
    other = write_root(tmp_path / "other", "a", frames=2)
    (root / "full_list.txt").write_text(f"metadata/a.json\n{other}/metadata/a.json\n")
    dataset = opened(root)
    assert dataset.num_frames(0) == 4
    assert "has the same name" in dataset.problems[0]


def test_frames_keep_the_order_of_the_table(tmp_path):
    root = write_root(tmp_path / "train", "a")
    table = json.loads((root / "metadata/a.json").read_text())
    table["frames"] = table["frames"][::-1]
    (root / "metadata/a.json").write_text(json.dumps(table))
    assert [int(image[0, 0, 0]) for image in opened(root).read(0, range(4)).images] == [3, 2, 1, 0]


FRAMES = {
    "nothing": (None, "it is None, not an object"),
    "no path": ({"image_path": None}, "its image_path is None"),
    "absent": ({"image_path": "/x/images/a/00009.png"}, "images/a/00009.png, and no images/a/00009.png in"),
    "other scene's": ({"image_path": "../../../etc/passwd"}, "leaves the scene's folder"),
    "twice": ({"image_path": "images/a/00000.png"}, "images/a/00000.png is frame 0 and is listed again"),
    "three numbers": ({"fxfycxcy": [1, 2, 3]}, "its fxfycxcy is [1, 2, 3], not 4 numbers"),
    "no focal": ({"fxfycxcy": [0, 1, 1, 1]}, "its focal lengths 0 and 1 are not above 0"),
    "text": ({"fxfycxcy": ["1", 1, 1, 1]}, "its fx is '1', not a number"),
    "nan": ({"w2c": np.full((4, 4), np.nan).tolist()}, "numbers that are not finite"),
    "scaled": ({"w2c": (2 * np.eye(4)).tolist()}, "last row"),
    "skewed": ({"w2c": np.diag([1, 1.2, 1, 1]).tolist()}, "rotation is off by"),
}


@pytest.mark.parametrize("case", FRAMES)
def test_a_wrong_frame_is_missing_and_the_others_keep_their_numbers(tmp_path, case):
    root = write_root(tmp_path / "train", "a")
    change_frame(root, "a", 2, FRAMES[case][0])
    dataset = opened(root)
    assert dataset.num_frames(0) == 4
    assert "scene 'a': 1 frame(s) marked missing, the first is frame 2: " in dataset.problems[0]
    assert FRAMES[case][1] in dataset.problems[0]
    assert [int(image[0, 0, 0]) for image in dataset.read(0, [0, 1, 3]).images] == [0, 1, 3]
    with pytest.raises(BrokenSceneError, match=r"a\.json: scene 'a', frame 2: "):
        dataset.read(0, [2])


@pytest.mark.parametrize("text", ['{"frames": [', "[1]", "{}", '{"frames": []}'])
def test_a_wrong_table_is_left_out(tmp_path, text):
    root = write_root(tmp_path / "train", "a", "b")
    (root / "metadata/a.json").write_text(text)
    dataset = opened(root)
    assert keys(dataset) == ["b"]
    assert "a.json: scene 'a' is left out: it " in dataset.problems[0]


def test_a_link_out_of_the_folder_is_not_followed(tmp_path):
    root = write_root(tmp_path / "train", "a")
    image = root / "images/a/00001.png"
    shutil.move(image, tmp_path / "secret.png")
    image.symlink_to(tmp_path / "secret.png")
    with pytest.raises(BrokenSceneError, match=r"frame 1: images/a/00001\.png: it is a link to .*secret"):
        opened(root).read(0, [1])
    assert opened(root, follow_links=True).read(0, [1]).images[0][0, 0, 0] == 1


def test_a_root_without_a_list_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"there is no .*full_list\.txt; root must be the folder with"):
        opened(tmp_path)
    (tmp_path / "full_list.txt").write_text("# nothing\n/gone/metadata/a.json\n")
    with pytest.raises(InputError, match=r"lists no scene that exists; .*line 2: there is no file"):
        opened(tmp_path)
    (tmp_path / "full_list.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match=r"full_list\.txt: 'utf-8' codec"):
        opened(tmp_path)
