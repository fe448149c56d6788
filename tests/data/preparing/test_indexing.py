"""prepare_data.py index: the index is small, quickly made, and its report names all faults."""

import os

import numpy as np
import pytest
import torch

from openrayzer.data.chunk_files.side_index import FRAME_INDEX_NAME
from openrayzer.data.preparing.indexing import index_chunks
from openrayzer.data.preparing.processes import parallel_results
from openrayzer.data.sources.chunks import Chunks
from openrayzer.interfaces import InputError


def test_index_reports_its_contents(write_root, make_scene):
    train = write_root([make_scene("a"), make_scene("b", size=(40, 20))], [make_scene("c")]) / "train"
    report = index_chunks(train, train / FRAME_INDEX_NAME, processes=2)
    assert (report.num_chunks, report.num_scenes, report.num_frames) == (2, 3, 24)
    assert report.problems == ()
    dataset = Chunks(root=train.parent)
    dataset.open()
    images = dataset._table(1).images
    assert (images["height"] == 40).all()
    assert (images["width"] == 20).all()


def test_more_processes_write_the_same_index(write_root, make_scene, tmp_path, monkeypatch):
    monkeypatch.setattr("openrayzer.data.preparing.indexing._BYTES_PER_PROCESS", 1)
    train = write_root(*[[make_scene(f"s{i}")] for i in range(9)]) / "train"
    for processes in (1, 3):
        index_chunks(train, tmp_path / str(processes), processes=processes)
    assert (tmp_path / "1").read_bytes() == (tmp_path / "3").read_bytes()


def test_size_behind_a_long_header_is_found(write_root, make_scene):
    scene = make_scene("a")
    notes = b"".join(b"\xff\xe1" + (30000).to_bytes(2, "big") + bytes(29998) for _ in range(2))
    scene.images[1] = scene.images[1][:2] + notes + scene.images[1][2:]
    train = write_root([scene]) / "train"
    report = index_chunks(train, train / FRAME_INDEX_NAME, processes=1)
    assert report.problems == ()
    dataset = Chunks(root=train.parent)
    dataset.open()
    assert dataset._table(0).images["height"].tolist() == [24] * 8
    assert dataset.read(0, [1]).images[0].shape == (24, 32, 3)


def test_problems_move_with_the_index(write_root, make_scene, tmp_path):
    scene = make_scene("a")
    scene.images[2] = b""
    scene.cameras[5, 7] = float("nan")
    root = write_root([scene])
    report = index_chunks(root / "train", root / "train" / FRAME_INDEX_NAME, processes=1)
    assert len(report.problems) == 2
    root.rename(tmp_path / "moved")
    dataset = Chunks(root=tmp_path / "moved")
    dataset.open()
    assert "frame(s) marked missing, the first is frame 5" in dataset.problems[0]
    assert "1 frame(s) look broken, the first is frame 2: it has no bytes" in dataset.problems[1]
    assert all(problem.startswith(str(tmp_path / "moved" / "train")) for problem in dataset.problems)


def test_link_to_nowhere_is_a_problem(write_root, make_scene):
    train = write_root([make_scene("a")]) / "train"
    (train / "000001.torch").symlink_to("nowhere")
    report = index_chunks(train, train / FRAME_INDEX_NAME, processes=1)
    assert (report.num_chunks, report.num_scenes) == (2, 1)
    assert "000001.torch: it cannot be read: No such file" in report.problems[0]


def test_index_stays_in_proportion_to_its_chunks(write_root, make_scene):
    train = write_root([make_scene("a")]) / "train"
    images = [torch.from_numpy(np.frombuffer(make_scene("b").images[0], np.uint8).copy())] * 1000
    torch.save([{"key": f"s{i}", "images": images} for i in range(1000)], train / "000001.torch")
    report = index_chunks(train, train / FRAME_INDEX_NAME, processes=1, posed=False)
    assert report.num_scenes >= 1
    assert report.num_bytes < 8 * report.chunk_bytes


def test_full_disk_is_reported_and_keeps_the_old_index(write_root, make_scene, monkeypatch):
    train = write_root([make_scene("a")]) / "train"
    index_chunks(train, train / FRAME_INDEX_NAME, processes=1)
    before = sorted(train.iterdir()), (train / FRAME_INDEX_NAME).read_bytes()

    def fail(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(InputError, match=r"frame_index\.bin cannot be written: No space left on device"):
        index_chunks(train, train / FRAME_INDEX_NAME, processes=1)
    assert (sorted(train.iterdir()), (train / FRAME_INDEX_NAME).read_bytes()) == before


def test_results_come_in_order_for_any_number_of_processes():
    for processes in (1, 3):
        assert list(parallel_results(lambda x: x * x, range(20), processes=processes)) == [
            (x, x * x) for x in range(20)
        ]


def test_a_killed_process_is_reported():
    with pytest.raises(InputError, match="the system ended a process"):
        list(parallel_results(lambda x: os._exit(9), range(4), processes=2))


def test_tool_indexes_all_folders_and_names_what_is_wrong(prepare, write_root, make_scene, tmp_path):
    write_root([make_scene("a")])
    root = write_root([make_scene("b")], split="test")
    done = prepare("index", root)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == 2
    (root / "train" / "000000.torch").write_bytes(b"")
    done = prepare("index", root, "--output", tmp_path / "beside")
    assert done.returncode == 1
    assert "problem: no usable scene in" in done.stdout
    assert (tmp_path / "beside" / "test" / FRAME_INDEX_NAME).is_file()
    assert not list((tmp_path / "beside" / "train").iterdir())


def test_tool_says_what_is_not_there(prepare, tmp_path):
    done = prepare("index", tmp_path / "nowhere")
    assert done.returncode == 2
    assert "error: there is no folder" in done.stderr
    (tmp_path / "empty").mkdir()
    done = prepare("index", tmp_path / "empty")
    assert done.returncode == 2
    assert "error: no chunks: looked for" in done.stderr


def test_folder_that_cannot_be_listed_is_named(prepare, write_root, make_scene, monkeypatch):
    root = write_root([make_scene("a")])
    scandir = os.scandir

    def refuse(path):
        if str(path).endswith("train"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    done = prepare("index", root)
    assert done.returncode == 2
    assert "train cannot be listed: Permission denied" in done.stderr
