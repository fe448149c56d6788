"""prepare_data.py process: the published command line writes an index."""

import json

from openrayzer.data.sources.chunks import Chunks


def test_published_call_gives_a_dataset_that_opens(prepare, write_root, make_scene, tmp_path):
    root = write_root([make_scene("a"), make_scene("b")], split="1K")
    call = ("process", "--base_path", root, "--output_dir", tmp_path / "out", "--num_processes", 2, "--mode")
    done = prepare(*call, "1K")
    assert done.returncode == 0
    spec = json.loads(done.stdout.partition("in an experiment: ")[2])["dataset"]
    assert spec.pop("type") == "chunks"
    dataset = Chunks(root=root, split=spec["split"], frame_index=tmp_path / "out" / "1K" / "frame_index.bin")
    assert str(dataset.frame_index) == spec["frame_index"]
    dataset.open()
    assert dataset._index is not None
    assert len(dataset) == 2
    assert sorted(path.name for path in (tmp_path / "out").rglob("*")) == ["1K", "frame_index.bin"]
    assert sorted(path.name for path in (root / "1K").iterdir()) == ["000000.torch", "index.json"]


def test_wrong_calls_are_named(prepare, write_root, make_scene, tmp_path):
    root = write_root([make_scene("a")])
    call = ("process", "--base_path", root, "--output_dir", tmp_path / "out", "--mode")
    done = prepare(*call, "12K")
    assert (done.returncode, "invalid choice: '12K'" in done.stderr) == (2, True)
    done = prepare(*call, "test")
    assert (done.returncode, "has no folder 'test'; it has the folders train" in done.stderr) == (2, True)
    (root / "train" / "000000.torch").write_bytes(b"")
    done = prepare(*call, "train")
    assert (done.returncode, "the file is empty" in done.stderr) == (1, True)


def test_chunk_size_of_the_published_call_is_ignored_aloud(prepare, write_root, make_scene, tmp_path):
    root = write_root([make_scene("a")])
    call = ("process", "--base_path", root, "--output_dir", tmp_path / "out", "--mode", "train")
    done = prepare(*call, "--chunk_size", 1000)
    assert done.returncode == 0
    assert "--chunk_size 1000 is ignored: chunks are read in place" in done.stdout
