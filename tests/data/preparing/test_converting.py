"""prepare_data.py convert: any dataset becomes chunks with the same frame numbers, even after interruptions."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from openrayzer.data.preparing import converting
from openrayzer.data.preparing.converting import Conversion
from openrayzer.data.preparing.parts import locking
from openrayzer.data.preparing.parts.locking import locked
from openrayzer.data.preparing.recoding import Recoding
from openrayzer.data.sources.chunks import Chunks
from openrayzer.data.sources.images import Images
from openrayzer.interfaces import InputError

TOOL = Path(__file__).parents[3] / "tools" / "prepare_data.py"


def opened(root, **settings) -> Chunks:
    dataset = Chunks(root=root, **settings)
    dataset.open()
    return dataset


@pytest.fixture
def source(write_root, make_scene):
    """Two scenes of 8 frames, 96 x 72."""
    return write_root([make_scene("a", size=(72, 96)), make_scene("b", size=(72, 96))])


def test_images_shrink_and_cameras_stay(prepare, source, tmp_path):
    done = prepare("convert", "--from", "chunks", source, "--output", tmp_path / "out", "--short_side", 24)
    assert done.returncode == 0
    assert "2 scenes, 16 frames: about" in done.stdout
    old, new = opened(source), opened(tmp_path / "out")
    assert new._index is not None
    assert [new.key(scene) for scene in range(2)] == ["a", "b"]
    before, after = old.read(1, range(8)), new.read(1, range(8))
    np.testing.assert_allclose(after.c2w, before.c2w, atol=1e-6)
    np.testing.assert_array_equal(after.intrinsics, before.intrinsics)
    for small, large in zip(after.images, before.images, strict=True):
        wanted = cv2.resize(large, (32, 24), interpolation=cv2.INTER_AREA)
        assert np.abs(small.astype(int) - wanted).mean() < 3
    manifest = json.loads((tmp_path / "out" / "train" / "manifest.json").read_text())
    assert (manifest["num_scenes"], manifest["num_frames"], manifest["num_missing_frames"]) == (2, 16, 0)
    assert {path.name for path in (tmp_path / "out" / "train").iterdir()} == {
        "000000.torch", "index.json", "frame_index.bin", "manifest.json", ".lock",
    }  # fmt: skip


def test_small_images_are_not_enlarged(prepare, source, tmp_path):
    assert (
        prepare("convert", "--from", "chunks", source, "--output", tmp_path / "out", "--short_side", 500).returncode
        == 0
    )
    assert opened(tmp_path / "out").read(0, [0]).images[0].shape == (72, 96, 3)


def test_broken_frames_stay_missing_and_the_others_keep_their_numbers(prepare, write_root, make_scene, tmp_path):
    scene, lost = make_scene("a"), make_scene("lost", frames=2)
    scene.images[2] = b"no image"
    scene.cameras[5, 6] = np.nan
    lost.images[:] = [b"", b""]
    root = write_root([scene, lost, make_scene("b")])
    done = prepare("convert", "--from", "chunks", root, "--output", tmp_path / "out")
    assert done.returncode == 1
    assert "problem: scene 'lost': is left out: no frame can be used" in done.stdout
    old, new = opened(root), opened(tmp_path / "out")
    assert [new.key(scene) for scene in range(len(new))] == ["a", "b"]
    assert new.num_frames(0) == 8
    good = [0, 1, 3, 4, 6, 7]
    np.testing.assert_allclose(new.read(0, good).c2w, old.read(0, good).c2w, atol=1e-6)
    assert sorted(new._table(0).frame_faults) == [2, 5]
    manifest = json.loads((tmp_path / "out" / "train" / "manifest.json").read_text())
    assert manifest["chunks"][0]["scenes"]["a"] == {"num_frames": 8, "missing": [2, 5]}
    assert manifest["plan"] == [[["a", 8], ["lost", 2], ["b", 8]]]
    assert prepare("convert", "--from", "chunks", root, "--output", tmp_path / "out").returncode == 1


def test_an_image_larger_than_jpeg_holds_is_missing_and_named(prepare, write_root, make_scene, tmp_path):
    scene = make_scene("a")
    scene.images[4] = cv2.imencode(".png", np.zeros((2, 66_000, 3), np.uint8))[1].tobytes()
    done = prepare("convert", "--from", "chunks", write_root([scene]), "--output", tmp_path / "out")
    assert done.returncode == 1
    assert "frame 4: 66000 x 2 pixels are too many for a JPEG file" in done.stdout + done.stderr
    manifest = json.loads((tmp_path / "out" / "train" / "manifest.json").read_text())
    assert manifest["chunks"][0]["scenes"]["a"] == {"num_frames": 8, "missing": [4]}
    assert np.isnan(opened(tmp_path / "out")._table(0).cameras[4]).all()


def test_source_without_cameras_gives_chunks_without(prepare, tmp_path):
    for frame in range(4):
        (tmp_path / "clips" / "one").mkdir(parents=True, exist_ok=True)
        picture = np.full((20, 30, 3), frame * 50, np.uint8)
        cv2.imwrite(str(tmp_path / "clips" / "one" / f"{frame}.png"), picture)
    (tmp_path / "clips" / "one" / "2.png").write_bytes(b"broken")
    assert prepare("convert", "--from", "images", tmp_path / "clips", "--output", tmp_path / "out").returncode == 1
    dataset = opened(tmp_path / "out", posed=False)
    assert (dataset.key(0), dataset.num_frames(0), dataset.posed) == ("one", 4, False)
    frames = dataset.read(0, [1, 3])
    assert [int(image[5, 5, 0]) for image in frames.images] == [50, 150]
    assert frames.c2w is None
    assert list(dataset._table(0).frame_faults) == [2]


def conversion(dataset, output, **changes) -> Conversion:
    settings = {"source": {"type": "chunks"}, "recoding": Recoding(None, 90), "chunk_bytes": 1.0, "processes": 1}
    return Conversion(dataset, output, **settings | changes)


def test_result_does_not_depend_on_the_number_of_processes(source, tmp_path):
    manifests = []
    for processes in (1, 2):
        manifests.append(conversion(opened(source), tmp_path / str(processes), processes=processes).run(print))
    assert manifests[0] == manifests[1]
    assert len(manifests[0]["chunks"]) == 2


def test_killed_conversion_goes_on(write_root, make_scene, tmp_path):
    root = write_root([make_scene(f"s{i}", frames=12, size=(600, 800)) for i in range(12)])
    output = tmp_path / "out"
    command = [sys.executable, str(TOOL), "convert", "--from", "chunks", str(root), "--output", str(output),
               "--short_side", "300", "--chunk_megabytes", "0.001", "--processes", "2"]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    records = output / "train" / ".convert"
    until = time.monotonic() + 60
    while time.monotonic() < until and len(list(records.glob("0*.json"))) < 2:
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (output / "train" / "manifest.json").exists()
    kept = {path.name: path.stat().st_mtime_ns for path in (output / "train").glob("*.torch")}
    assert 2 <= len(kept) < 12
    (output / "train" / "000099.torch").with_name(".000003.torch.1.tmp").write_bytes(b"half a chunk")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert " of them done" in done.stdout
    assert (output / "train" / "000000.torch").stat().st_mtime_ns == kept["000000.torch"]  # not written again
    whole = tmp_path / "whole"
    assert (
        subprocess.run(
            [*command[:6], "--output", str(whole), *command[8:]], check=False, stdout=subprocess.DEVNULL
        ).returncode
        == 0
    )
    for path in sorted((whole / "train").glob("*.torch")):
        assert path.read_bytes() == (output / "train" / path.name).read_bytes()
    assert not [path for path in (output / "train").iterdir() if path.suffix == ".tmp" or path.name == ".convert"]


def test_two_at_once_are_refused(prepare, source, tmp_path, monkeypatch):
    monkeypatch.setattr(locking, "WAITING_SECONDS", 0.2)
    with locked(tmp_path / "out" / "train"):
        done = prepare("convert", "--from", "chunks", source, "--output", tmp_path / "out")
    assert done.returncode == 2
    assert f"is being written by process {os.getpid()} on " in done.stderr
    assert prepare("convert", "--from", "chunks", source, "--output", tmp_path / "out").returncode == 0


def test_lock_of_another_machine_holds_for_a_while(prepare, source, tmp_path):
    lock = tmp_path / "out" / "train" / ".lock"
    lock.parent.mkdir(parents=True)
    lock.write_text('{"host": "elsewhere", "process": 7}')
    done = prepare("convert", "--from", "chunks", source, "--output", tmp_path / "out")
    assert done.returncode == 2
    assert "is being written by process 7 on elsewhere, which renewed" in done.stderr
    os.utime(lock, (0, time.time() - 2 * locking.STALE_SECONDS))
    assert prepare("convert", "--from", "chunks", source, "--output", tmp_path / "out").returncode == 0


def test_full_disk_is_reported_and_the_conversion_continues(source, tmp_path, monkeypatch):
    write, written = converting.write_chunk, []

    def fail_once(path, scenes):
        if len(written) == 1:
            raise OSError(28, "No space left on device")
        written.append(path)
        write(path, scenes)

    monkeypatch.setattr(converting, "write_chunk", fail_once)
    with pytest.raises(converting.InputError, match=r"000001\.torch cannot be written: No space left on device"):
        conversion(opened(source), tmp_path / "out").run(print)
    written.append(None)
    said = []
    manifest = conversion(opened(source), tmp_path / "out").run(said.append)
    assert manifest["num_frames"] == 16
    assert "16 frames, 8 of them done" in said[0]


def test_too_little_space_is_reported_before_writing(source, tmp_path, monkeypatch):
    class Full:
        free = 10

    monkeypatch.setattr(converting.shutil, "disk_usage", lambda path: Full)
    with pytest.raises(converting.InputError, match=r"not enough space on its disk: 2 scenes, 16 frames: about"):
        conversion(opened(source), tmp_path / "out").run(print)
    assert [path.name for path in (tmp_path / "out").iterdir()] == [".lock"]


def test_outputs_that_must_not_be_are_refused(prepare, source, tmp_path):
    def said(output) -> str:
        done = prepare("convert", "--from", "chunks", source, "--output", output)
        assert done.returncode == 2
        return done.stderr

    before = sorted(source.rglob("*"))
    assert "must be separate folders" in said(source / "train" / "out")
    assert "must be separate folders" in said(source)
    (tmp_path / "link").symlink_to(source)
    assert "must be separate folders" in said(tmp_path / "link" / "out")
    assert sorted(source.rglob("*")) == before
    (tmp_path / "full" / "train").mkdir(parents=True)
    (tmp_path / "full" / "train" / "diary.txt").write_text("mine")
    assert "holds 'diary.txt' and is not the output of a conversion" in said(tmp_path / "full")
    (tmp_path / "file").write_text("")
    assert "cannot be written to: " in said(tmp_path / "file")


@pytest.mark.parametrize("name", [".x.tmp", ".000003.torch.1.tmp", ".convert/notes.txt", "manifest.json"])
def test_refused_folder_stays_as_it_was(prepare, source, tmp_path, name):
    theirs = tmp_path / "out" / "train" / name
    theirs.parent.mkdir(parents=True)
    theirs.write_text("{}")
    done = prepare("convert", "--from", "chunks", source, "--output", tmp_path / "out")
    assert done.returncode == 2
    assert "give an empty folder" in done.stderr
    assert theirs.read_text() == "{}"
    assert [path for path in (tmp_path / "out" / "train").rglob("*") if path.is_file()] == [theirs]


def test_locks_that_are_somebody_elses_are_refused_untouched(prepare, source, tmp_path):
    convert = ("convert", "--from", "chunks", source, "--output", tmp_path / "out")
    lock, theirs = tmp_path / "out" / "train" / ".lock", tmp_path / "theirs"
    lock.parent.mkdir(parents=True)
    lock.write_text("held by the package manager")
    done = prepare(*convert)
    assert (done.returncode, "is not the lock of a conversion" in done.stderr) == (2, True)
    assert lock.read_text() == "held by the package manager"
    lock.unlink()
    theirs.write_text("")
    lock.symlink_to(theirs)
    done = prepare(*convert)
    assert (done.returncode, "is a link, not a lock" in done.stderr) == (2, True)
    lock.unlink()
    os.mkfifo(lock)
    done = prepare(*convert)
    assert (done.returncode, "is not a regular file, so not a lock" in done.stderr) == (2, True)


def test_temporary_files_of_others_survive_a_conversion_that_goes_on(source, tmp_path, monkeypatch):
    def fail(path, scenes):
        raise OSError(28, "No space left on device")

    write = converting.write_chunk
    monkeypatch.setattr(converting, "write_chunk", fail)
    with pytest.raises(converting.InputError, match="No space left"):
        conversion(opened(source), tmp_path / "out").run(print)
    monkeypatch.setattr(converting, "write_chunk", write)
    theirs = [tmp_path / "out" / ".x.tmp", tmp_path / "out" / ".convert" / "notes.txt"]
    for path in theirs:
        path.write_text("mine")
    conversion(opened(source), tmp_path / "out").run(print)
    assert [path.read_text() for path in theirs] == ["mine", "mine"]
    assert list((tmp_path / "out" / ".convert").iterdir()) == theirs[1:]


def test_other_settings_and_other_scenes_are_refused(prepare, source, write_root, make_scene, tmp_path):
    convert = ("convert", "--from", "chunks", source, "--output", tmp_path / "out")
    assert prepare(*convert).returncode == 0
    assert "complete already" in prepare(*convert).stdout
    done = prepare(*convert, "--quality", 50)
    assert done.returncode == 2
    assert "quality was 95, is 50" in done.stderr
    work = tmp_path / "begun" / ".convert"
    work.mkdir(parents=True)
    begun = conversion(opened(source), tmp_path / "begun", source={})
    (work / "plan.json").write_text(json.dumps({"settings": begun.settings, "chunks": [[["a", 3]]]}))
    with pytest.raises(converting.InputError, match="other scenes than when"):
        begun.run(print)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--short_side", 0], "short side must be 1 pixel or more"),
        (["--quality", 101], "quality must be from 1 to 100"),
        (["--chunk_megabytes", 0], "size of chunks must be above 0"),
    ],
)
def test_wrong_numbers_are_named(prepare, source, tmp_path, arguments, said):
    done = prepare("convert", "--from", "chunks", source, "--output", tmp_path / "out", *arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("split", ["../test", "..", ".", "", "a/b", "/tmp/elsewhere", "..\\\\test"])
def test_split_is_one_folder(prepare, source, tmp_path, split):
    done = prepare("convert", "--from", "chunks", source, "--output", tmp_path / "out", "--split", split)
    assert done.returncode == 2
    assert "--split must be the name of one folder" in done.stderr
    assert not (tmp_path / "out").exists()


def test_other_data_under_the_same_name_is_not_complete(write_root, make_scene, tmp_path, monkeypatch):
    output = tmp_path / "out"
    for name, scenes in (("one", "ab"), ("two", "cd")):
        write_root([make_scene(scene) for scene in scenes], name=f"{name}/data")
    for name in ("one", "two"):
        monkeypatch.chdir(tmp_path / name)
        begun = conversion(opened(Path("data")), output, source={"type": "chunks", "root": "data"})
        if name == "one":
            begun.run(print)
    with pytest.raises(converting.InputError, match=r"source was .*one/data.* is .*two/data"):
        begun.run(print)
    monkeypatch.chdir(tmp_path)
    write_root([make_scene("a"), make_scene("e")], name="one/data")
    with pytest.raises(converting.InputError, match="other scenes than when"):
        conversion(opened(Path("one/data")), output, source={"type": "chunks", "root": "data"}).run(print)


@pytest.mark.parametrize("name", ["000001.torch", "index.json", "frame_index.bin"])
def test_files_that_are_gone_or_changed_are_made_again(source, tmp_path, name):
    output, said = tmp_path / "out", []
    before = conversion(opened(source), output).run(print)
    content, kept = (output / name).read_bytes(), (output / "000000.torch").stat().st_mtime_ns
    for damage in (b"", b"cut short" if name.endswith(".torch") else b""):
        (output / name).write_bytes(damage)
        assert conversion(opened(source), output).run(said.append) == before
        assert not said[-1].endswith("is complete already")
        assert name == "frame_index.bin" or (output / name).read_bytes() == content
    assert f"these files are missing or changed and are made again: {name}" in said[0]
    (output / name).unlink()
    assert conversion(opened(source), output).run(print) == before
    assert (output / "000000.torch").stat().st_mtime_ns == kept
    conversion(opened(source), output).run(said.append)
    assert said[-1].endswith("is complete already")


def test_damaged_plan_is_refused_and_damaged_record_made_again(source, tmp_path, monkeypatch):
    output = tmp_path / "out"
    before = conversion(opened(source), output).run(print)
    plan = output / ".convert" / "plan.json"
    (output / "manifest.json").unlink()
    plan.parent.mkdir()
    plan.write_text(json.dumps({"settings": before["settings"], "chunks": [1]}))
    with pytest.raises(InputError, match="is damaged; convert into a new folder"):
        conversion(opened(source), output).run(print)
    plan.write_text(json.dumps({"settings": before["settings"], "chunks": before["plan"]}))
    record = {key: value for key, value in before["chunks"][0].items() if key != "scenes"}
    (plan.parent / "000000.json").write_text(json.dumps(record))
    assert conversion(opened(source), output).run(print) == before


def test_split_names_the_output_of_sources_that_have_none(prepare, tmp_path):
    (tmp_path / "clips" / "one").mkdir(parents=True)
    for frame in range(2):
        cv2.imwrite(str(tmp_path / "clips" / "one" / f"{frame}.png"), np.zeros((20, 30, 3), np.uint8))
    source = ("--from", "images", tmp_path / "clips", "--split", "test")
    done = prepare("convert", *source, "--output", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert opened(tmp_path / "out", split="test", posed=False).key(0) == "one"
    done = prepare("verify", *source)
    assert done.returncode == 2
    assert "--split test: the dataset 'images' has no splits; give the folder of the scenes as its root" in done.stderr
    done = prepare("verify", "--source", '{"root": "x"}', "--split", "test")
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)


def test_where_scenes_came_from_and_when_is_kept(prepare, write_root, make_scene, tmp_path):
    scene = replace(make_scene("a"), url="https://example.org/a", timestamps=np.arange(8) * 33_367 + 5)
    root = write_root([scene])
    for step in ("one", "two"):  # with and without a side index
        assert prepare("convert", "--from", "chunks", root, "--output", tmp_path / step).returncode == 0
        (stored,) = torch.load(tmp_path / step / "train" / "000000.torch", weights_only=True)
        assert stored["url"] == "https://example.org/a"
        assert stored["timestamps"].tolist() == (np.arange(8) * 33_367 + 5).tolist()
        root = tmp_path / step


def test_frames_without_times_are_stamped_with_their_numbers(write_root, make_scene, tmp_path):
    root = write_root([make_scene("a")])
    (stored,) = torch.load(root / "train" / "000000.torch", weights_only=True)
    torch.save([{**stored, "timestamps": "yesterday", "url": 7}], root / "train" / "000000.torch")
    conversion(opened(root), tmp_path / "out").run(print)
    (made,) = torch.load(tmp_path / "out" / "000000.torch", weights_only=True)
    assert (made["url"], made["timestamps"].tolist()) == ("", list(range(8)))


def test_split_in_the_source_names_the_folder(prepare, write_root, make_scene, tmp_path):
    source = {"type": "chunks", "root": str(write_root([make_scene("a")], split="test")), "split": "test"}
    assert prepare("convert", "--source", json.dumps(source), "--output", tmp_path / "out").returncode == 0
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["test"]
    done = prepare("convert", "--source", json.dumps(source | {"split": "../test"}), "--output", tmp_path / "other")
    assert done.returncode == 2
    assert "--split must be the name of one folder" in done.stderr
    assert not (tmp_path / "other").exists()


def test_source_that_changed_is_not_complete(tmp_path):
    folder = tmp_path / "clips" / "one"
    folder.mkdir(parents=True)
    for frame in range(3):
        cv2.imwrite(str(folder / f"{frame}.png"), np.full((20, 30, 3), frame * 50, np.uint8))

    def begun() -> Conversion:
        images = Images(root=tmp_path / "clips")
        images.open()
        return conversion(images, tmp_path / "out")

    begun().run(print)
    begun().run(print)
    cv2.imwrite(str(folder / "1.png"), np.full((20, 30, 3), 99, np.uint8))
    with pytest.raises(converting.InputError, match="files of the source changed since"):
        begun().run(print)
