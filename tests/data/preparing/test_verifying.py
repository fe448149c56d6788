"""prepare_data.py verify: it finds broken frames and cameras and remarks on unusual scenes."""

import json

import cv2
import numpy as np
import pytest

from openrayzer.data.preparing.verifying import camera_fault, verify
from openrayzer.data.sources.chunks import Chunks


def opened(root) -> Chunks:
    dataset = Chunks(root=root)
    dataset.open()
    return dataset


def test_good_source_has_no_problems(write_root, make_scene):
    report = verify(opened(write_root([make_scene("a"), make_scene("b", frames=70)])), processes=2)
    assert report.problems == []
    assert (report.num_frames, report.num_usable) == (78, 78)
    assert report.scenes[1].sizes == {"32 x 24": 70}


def test_broken_frame_does_not_hide_its_neighbours(write_root, make_scene):
    scene = make_scene("a")
    scene.images[2] = b"no image"
    scene.images[3] = scene.images[3][:200]
    scene.cameras[6, 8] = np.nan
    report = verify(opened(write_root([scene, make_scene("b")])), processes=1)
    assert sorted(report.scenes[0].broken) == [2, 3, 6]
    assert "frame 2: it is neither JPEG" in report.scenes[0].broken[2]
    assert report.scenes[0].sizes == {"32 x 24": 5}
    assert report.scenes[1].problems == []
    assert any("3 of 8 frame(s) cannot be used" in problem for problem in report.problems)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda pose, k: pose.__setitem__((0, 0), np.nan), "not finite"),
        (lambda pose, k: pose.__setitem__((0, 0), 1.01), "rotation is off"),
        (lambda pose, k: pose.__setitem__((0, 0), -1), "mirror image"),
        (lambda pose, k: pose.__setitem__((3, 0), 1), "last row"),
        (lambda pose, k: k.__setitem__(slice(0, 2), 0.01), "focal lengths, 0.01 widths"),
        (lambda pose, k: k.__setitem__(slice(0, 2), 500.0), "focal lengths"),
        (lambda pose, k: k.__setitem__(2, 0.0), "principal point"),
        (lambda pose, k: k.__setitem__(1, 0.9), "pixels are not square"),
    ],
)
def test_camera_is_judged(change, said):
    pose, intrinsics = np.eye(4, dtype=np.float32), np.array([0.9, 1.2, 0.5, 0.5], np.float32)
    assert camera_fault(pose, intrinsics, (240, 320)) == ""
    change(pose, intrinsics)
    assert said in camera_fault(pose, intrinsics, (240, 320))


def test_frames_of_two_sizes_and_a_still_camera_are_remarks(write_root, make_scene):
    scene = make_scene("a")
    scene.images[3] = cv2.imencode(".png", np.zeros((48, 64, 3), np.uint8))[1].tobytes()
    scene.cameras[:] = scene.cameras[0]
    report = verify(opened(write_root([scene])), processes=1)
    assert report.problems == []
    assert report.scenes[0].remarks == (
        "the camera does not move in frames 0 to 7",
        "its frames differ in size: 7 of 32 x 24, 1 of 64 x 48",
    )


def test_tool_writes_a_report_and_exits_with_1(prepare, write_root, make_scene, tmp_path):
    scene = make_scene("a")
    scene.images[2] = b""
    root = write_root([scene])
    done = prepare("verify", "--from", "chunks", root, "--output", tmp_path / "report.json")
    assert done.returncode == 1
    assert "a: 7 of 8 frames usable" in done.stdout
    report = json.loads((tmp_path / "report.json").read_text())
    assert (report["num_frames"], report["num_usable_frames"], report["num_problems"]) == (8, 7, 1)
    assert list(report["scenes"][0]["broken"]) == ["2"]
    good = write_root([make_scene("a")], split="test")
    assert prepare("verify", "--from", "chunks", good, "--split", "test").returncode == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--from", "chunkz", "x"], "no dataset named 'chunkz'; did you mean 'chunks'"),
        (["--from", "chunks", "/no/where"], "there is no folder /no/where"),
        (["--source", "{"], "--source is not JSON"),
        (["--source", '{"type": "chunks"}'], "source.root: required"),
        (["--from", "images", "/", "--split", "train"], "the dataset 'images' has no splits"),
        (["--from", "chunks", "/", "--processes", "0"], "--processes must be 1 or more"),
        ([], "one of the arguments --from --source is required"),
    ],
)
def test_wrong_arguments_are_named(prepare, arguments, said):
    done = prepare("verify", *arguments)
    assert done.returncode == 2
    assert said in done.stderr


@pytest.mark.parametrize("command", ["verify", "pairs", "overlap", "split", "stats"])
def test_an_output_does_not_overwrite_a_file_of_the_source(prepare, write_root, make_scene, command):
    root = write_root([make_scene("a")])
    names = {"split": "train.txt", "stats": "statistics.json"}
    victim = root / "train" / names.get(command, "000000.torch")
    victim.touch()
    content = victim.read_bytes()
    output = victim.parent if command in names else victim
    done = prepare(command, "--from", "chunks", root, "--output", output)
    assert done.returncode == 2
    assert "exists in the source" in done.stderr
    assert victim.read_bytes() == content
