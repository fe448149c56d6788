"""The synthetic dataset is written once, completely or not at all, and read like other chunks."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from openrayzer.data.sources import synthetic
from openrayzer.data.sources.synthetic import MANIFEST_NAME, SyntheticRooms
from openrayzer.data.synthetic_rooms import scenes as room_scenes
from openrayzer.data.synthetic_rooms.room import make_room
from openrayzer.data.synthetic_rooms.scenes import FilmSettings, film, plan_film, write_rooms
from openrayzer.interfaces import DATASETS, InputError

SMALL = {"num_train": 2, "num_test": 1, "num_frames": 3, "image_size": (16, 24)}


@pytest.fixture(autouse=True)
def one_process(monkeypatch):
    monkeypatch.setattr(synthetic, "usable_cores", lambda: 1)
    monkeypatch.setattr(synthetic, "_POLL_SECONDS", 0.02)


def rooms(root: Path, **changes) -> SyntheticRooms:
    return SyntheticRooms(**{"root": root, **SMALL, **changes})


def everything(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_it_is_registered_and_reads_the_rendered_frames(tmp_path):
    assert DATASETS["synthetic"] is SyntheticRooms
    dataset = rooms(tmp_path / "rooms")
    dataset.open()
    assert len(dataset) == 2
    assert [dataset.key(scene) for scene in range(2)] == ["room_00000", "room_00001"]
    assert dataset.num_frames(0) == 3
    assert dataset.posed
    assert dataset.problems == ()
    frames = dataset.read(1, [2, 0])
    clip = plan_film(dataset.settings, 1)
    np.testing.assert_allclose(frames.c2w, clip.c2w[[2, 0]], atol=1e-5)
    np.testing.assert_allclose(frames.intrinsics[0], clip.intrinsics, atol=1e-6)
    exact = clip.room.view(clip.c2w[2], clip.intrinsics, size=(16, 24), exposure=clip.exposures[2])
    assert frames.images[0].shape == (16, 24, 3)
    assert np.abs(frames.images[0].astype(int) - exact).mean() < 12  # JPEG halves the resolution of colours


def test_pixels_are_square_in_images_of_any_shape():
    for size in ((16, 24), (24, 16)):
        fx, fy, cx, cy = plan_film(FilmSettings(1, 1, 2, size, 1.0, 0), 0).intrinsics
        assert fx * size[1] == pytest.approx(fy * size[0])
        assert (cx, cy) == (0.5, 0.5)


def test_splits_share_no_room(tmp_path):
    train, test = rooms(tmp_path / "rooms"), rooms(tmp_path / "rooms", split="test")
    train.open()
    test.open()
    assert [test.key(scene) for scene in range(len(test))] == ["room_00002"]
    assert not {train.key(scene) for scene in range(len(train))} & {"room_00002"}


def test_a_second_opening_writes_nothing(tmp_path, monkeypatch):
    rooms(tmp_path / "rooms").open()
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "rooms").rglob("*")}
    monkeypatch.setattr(synthetic, "write_rooms", lambda *_, **__: pytest.fail("written again"))
    rooms(tmp_path / "rooms").open()
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "rooms").rglob("*")}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rooms"]  # no lock or temporary folder left


def test_the_files_do_not_depend_on_the_number_of_processes(tmp_path, caplog):
    settings = FilmSettings(2, 1, 2, (16, 16), 1.0, 3)
    write_rooms(tmp_path / "one", settings, processes=1)
    write_rooms(tmp_path / "two", settings, processes=2)
    assert "worker processes failed" not in caplog.text
    assert everything(tmp_path / "one") == everything(tmp_path / "two")


def test_a_failing_pool_is_replaced_by_this_process(tmp_path, monkeypatch, caplog):
    def broken(*_):
        yield film(settings, 0)
        raise room_scenes.BrokenProcessPool("killed")

    settings = FilmSettings(2, 1, 2, (16, 16), 1.0, 3)
    monkeypatch.setattr(room_scenes, "_filmed_by_pool", broken)
    write_rooms(tmp_path / "rooms", settings, processes=2)
    keys = [scene["key"] for scene in torch.load(tmp_path / "rooms/train/000000.torch", weights_only=True)]
    assert keys == ["room_00000", "room_00001"]
    assert "killed" in caplog.text


def test_chunks_hold_sixteen_scenes_and_an_index_names_them(tmp_path, monkeypatch):
    scene = film(FilmSettings(1, 1, 2, (16, 16), 1.0, 0), 0)
    monkeypatch.setattr(room_scenes, "film", lambda settings, number: room_scenes.ChunkScene(
        f"room_{number:05d}", scene.cameras, scene.images, scene.timestamps
    ))  # fmt: skip
    write_rooms(tmp_path, FilmSettings(20, 3, 2, (16, 16), 1.0, 0), processes=1)
    index = json.loads((tmp_path / "train/index.json").read_text())
    assert list(index.values()).count("000000.torch") == 16
    assert index["room_00019"] == "000001.torch"
    assert list(json.loads((tmp_path / "test/index.json").read_text())) == ["room_00020", "room_00021", "room_00022"]


def test_other_settings_are_refused_with_the_difference_and_the_way_out(tmp_path):
    rooms(tmp_path / "rooms").open()
    with pytest.raises(InputError, match=r"motion is 1.0 there and 2.0 here.*another root or delete"):
        rooms(tmp_path / "rooms", motion=2.0).open()
    with pytest.raises(InputError, match="seed is 0 there and 7 here"):
        rooms(tmp_path / "rooms", seed=7).open()


def test_rooms_of_an_older_version_are_refused_with_three_ways_out(tmp_path):
    (tmp_path / "rooms").mkdir()
    (tmp_path / "rooms" / MANIFEST_NAME).write_text(json.dumps({"format_version": 1, "num_train": 2}))
    with pytest.raises(
        InputError, match=r"version 1, and this program makes version 2; delete.*another root.*'chunks'"
    ):
        rooms(tmp_path / "rooms").open()


def test_the_settings_of_the_rooms_are_recorded(tmp_path):
    changes = {"focal_range": (1.0, 1.5), "motions": ("arc", "arc", "walk"), "exposure": 0.0}
    rooms(tmp_path / "rooms", **changes).open()
    recorded = json.loads((tmp_path / "rooms" / MANIFEST_NAME).read_text())
    assert recorded["focal_range"] == [1.0, 1.5]
    assert recorded["motions"] == ["arc", "arc", "walk"]
    assert recorded["exposure"] == 0.0
    rooms(tmp_path / "rooms", **changes).open()


def test_focal_lengths_fill_the_range(monkeypatch):
    room = make_room(np.random.default_rng(0))
    monkeypatch.setattr(room_scenes, "make_room", lambda generator: room)  # to save time
    settings = FilmSettings(16, 1, 2, (16, 24), 1.0, 0)
    focal = np.array([plan_film(settings, number).intrinsics[0] for number in range(16)])
    assert 0.7 <= focal.min() < 0.9
    assert 1.7 < focal.max() <= 2.2
    assert 1.0 < np.median(focal) < 1.6


def test_only_held_out_rooms_have_depth_and_it_is_that_of_the_room():
    settings = FilmSettings(1, 1, 2, (16, 24), 1.0, 0)
    assert film(settings, 0).depths is None
    plan, scene = plan_film(settings, 1), film(settings, 1)
    for pose, file in zip(plan.c2w, scene.depths, strict=True):
        stored = cv2.imdecode(np.frombuffer(file, np.uint8), cv2.IMREAD_UNCHANGED)
        assert stored.dtype == np.uint16
        np.testing.assert_allclose(stored / 1000, plan.room.depth(pose, plan.intrinsics, size=(16, 24)), atol=6e-4)


def test_a_folder_with_other_things_is_left_alone(tmp_path):
    (tmp_path / "holiday.jpg").write_bytes(b"precious")
    with pytest.raises(InputError, match=r"not empty and holds no rooms\.json.*give an empty folder"):
        rooms(tmp_path).open()
    assert (tmp_path / "holiday.jpg").read_bytes() == b"precious"


def test_a_damaged_manifest_is_named(tmp_path):
    (tmp_path / MANIFEST_NAME).write_text("{half")
    with pytest.raises(InputError, match=r"rooms\.json cannot be read.*delete the folder"):
        rooms(tmp_path).open()


def test_a_manifest_that_is_a_pipe_is_named(tmp_path, waiting_pipe):
    waiting_pipe(tmp_path / MANIFEST_NAME)
    with pytest.raises(InputError, match=r"rooms\.json cannot be read \(it is not a regular file\)"):
        rooms(tmp_path).open()


def test_a_root_that_is_a_file_is_left_alone(tmp_path):
    (tmp_path / "file").write_bytes(b"precious")
    with pytest.raises(InputError, match=r"not empty and holds no rooms\.json"):
        rooms(tmp_path / "file").open()


def test_an_empty_folder_is_filled(tmp_path):
    rooms(tmp_path).open()
    assert (tmp_path / MANIFEST_NAME).is_file()


def test_an_interrupted_write_leaves_nothing(tmp_path, monkeypatch):
    def interrupted(folder, settings, *, processes):
        write_rooms(folder, settings, processes=processes)
        raise KeyboardInterrupt

    monkeypatch.setattr(synthetic, "write_rooms", interrupted)
    with pytest.raises(KeyboardInterrupt):
        rooms(tmp_path / "rooms").open()
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_an_input_error_with_the_path(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(synthetic, "write_rooms", full)
    with pytest.raises(InputError, match=r"cannot be written to .*rooms: .*No space left"):
        rooms(tmp_path / "rooms").open()
    assert list(tmp_path.iterdir()) == []


def test_a_root_below_a_file_is_an_input_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot be (written|read)"):
        rooms(tmp_path / "file" / "rooms").open()


def test_of_several_openings_one_writes_and_the_others_wait(tmp_path, monkeypatch):
    writers = []

    def slow(folder, settings, *, processes):
        writers.append(folder)
        time.sleep(0.3)
        write_rooms(folder, settings, processes=processes)

    monkeypatch.setattr(synthetic, "write_rooms", slow)
    datasets = [rooms(tmp_path / "rooms") for _ in range(4)]
    threads = [threading.Thread(target=dataset.open) for dataset in datasets]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(writers) == 1
    assert [len(dataset) for dataset in datasets] == [2] * 4
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rooms"]


def test_the_lock_of_a_dead_process_is_taken_over(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    lock = tmp_path / ".rooms.lock"
    lock.write_text(json.dumps({"host": socket.gethostname(), "pid": dead.pid}))
    rooms(tmp_path / "rooms").open()
    assert not lock.exists()


@pytest.mark.parametrize(
    ("owner", "age", "stale"),
    [
        ({"host": socket.gethostname(), "pid": os.getpid()}, 1e6, False),
        ({"host": "elsewhere", "pid": 1}, 5.0, False),
        ({"host": "elsewhere", "pid": 1}, 1e6, True),
        ("", 1.0, False),
        ("", 60.0, True),
    ],
)
def test_a_lock_is_stale_only_when_its_owner_must_be_gone(tmp_path, owner, age, stale):
    lock = tmp_path / "lock"
    lock.write_text(json.dumps(owner) if owner else "")
    os.utime(lock, (time.time() - age,) * 2)
    assert synthetic._is_stale(lock) is stale


def test_losing_the_race_to_rename_is_no_failure(tmp_path, monkeypatch):
    other = tmp_path / "other" / "rooms"
    rooms(other).open()

    def overtaken(folder, settings, *, processes):
        write_rooms(folder, settings, processes=processes)
        other.rename(tmp_path / "rooms")

    monkeypatch.setattr(synthetic, "write_rooms", overtaken)
    dataset = rooms(tmp_path / "rooms")
    dataset.open()
    assert len(dataset) == 2
    assert not list(tmp_path.glob(".rooms*"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_train": 0}, "num_train must be 1 or more, got 0"),
        ({"image_size": (4, 96)}, "image_size must be"),
        ({"motion": -1.0}, "motion must be 0 to 10"),
        ({"seed": -3}, "seed 0 or more"),
        (
            {"focal_range": (2.0, 1.0)},
            r"focal_range must be \(smallest, largest\), between 0.2 and 10, got \(2.0, 1.0\)",
        ),
        ({"motions": ()}, "motions must name one or more of turn, arc, .*back_and_forth"),
        ({"exposure": 1.5}, "exposure must be 0 to 1, got 1.5"),
    ],
)
def test_impossible_settings_are_refused_at_once(tmp_path, change, message):
    with pytest.raises(InputError, match=message):
        rooms(tmp_path / "rooms", **change)
