"""prepare_data.py split: every scene is in one list, and no benchmark scene is in the training list."""

import json

import pytest

from openrayzer.data.preparing.splitting import read_scene_names, scene_name, split_scenes, write_split
from openrayzer.data.sources.chunks import Chunks
from openrayzer.interfaces import InputError

HASHES = [f"{number:064x}" for number in range(100, 110)]


def divided(keys, **changes):
    settings = {"benchmark": None, "test": frozenset(), "test_share": 0.2, "seed": 0}
    return split_scenes(keys, **settings | changes)


def test_every_scene_is_in_one_list_independent_of_other_scenes():
    keys = [f"scene_{i}" for i in range(1000)]
    split = divided(keys)
    assert sorted([*split.train, *split.test]) == sorted(keys)
    assert 150 < len(split.test) < 250
    assert set(divided(keys[:500]).test) == set(split.test) & set(keys[:500])
    assert divided(keys, seed=1).test != split.test


def test_benchmark_scenes_are_in_no_other_list_under_any_longer_name():
    keys = [f"dl3dv_{HASHES[0]}", f"1K/{HASHES[1]}", *HASHES[2:]]
    split = divided(keys, benchmark=frozenset(HASHES[:3]), test_share=0.0, test=frozenset({HASHES[4]}))
    assert split.benchmark == keys[:3]
    assert split.test == [HASHES[4]]
    assert not {*split.train, *split.test} & set(split.benchmark)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.json", json.dumps({HASHES[0]: None, HASHES[1]: {"context": [0], "target": [1]}})),
        ("a.json", json.dumps([{"scene_name": HASHES[0]}, {"scene_name": HASHES[1]}])),
        ("a.csv", f"hash,batch\n{HASHES[0]},1K\n{HASHES[1]},2K\n"),
        ("a.txt", f"# benchmark\n./dl3dv_benchmark/{HASHES[0]}/opencv_cameras.json\n\ndl3dv_{HASHES[1]}\n"),
    ],
)
def test_lists_of_all_kinds_are_read(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    assert read_scene_names(tmp_path / name) == frozenset(HASHES[:2])


@pytest.mark.parametrize(("name", "text"), [("a.json", "{"), ("a.json", "3"), ("a.json", "{}"), ("a.txt", "\n")])
def test_lists_that_name_nothing_are_refused(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=r"a\.(json|txt)"):
        read_scene_names(tmp_path / name)


def test_names_of_others_are_kept():
    assert scene_name(" 5aca87f95a9412c6 ") == "5aca87f95a9412c6"


def test_tool_asks_for_the_benchmark_and_its_lists_are_read_by_datasets(prepare, write_root, make_scene, tmp_path):
    root = write_root([make_scene(f"dl3dv_{name}", frames=2) for name in HASHES])
    split = ("split", "--from", "chunks", root, "--output", tmp_path / "lists")
    done = prepare(*split)
    assert done.returncode == 2
    assert "the 140 scenes of its benchmark" in done.stderr
    (tmp_path / "benchmark.txt").write_text(HASHES[0])
    assert prepare(*split, "--keep_benchmark", "--benchmark", tmp_path / "benchmark.txt").returncode == 2
    assert prepare(*split, "--keep_benchmark").returncode == 0
    done = prepare(*split, "--benchmark", tmp_path / "benchmark.txt", "--test_share", 0.3)
    assert done.returncode == 0
    lists = {path.stem: path.read_text().split() for path in (tmp_path / "lists").iterdir()}
    assert lists["benchmark"] == [f"dl3dv_{HASHES[0]}"]
    dataset = Chunks(root=root, scenes=tmp_path / "lists" / "train.txt")
    dataset.open()
    assert [dataset.key(scene) for scene in range(len(dataset))] == lists["train"]


def test_test_scenes_that_are_not_there_are_named(prepare, write_root, make_scene, tmp_path):
    root = write_root([make_scene(name, frames=2) for name in "abc"])
    (tmp_path / "test.txt").write_text("b\nq\n")
    done = prepare("split", "--from", "chunks", root, "--output", tmp_path / "lists", "--test", tmp_path / "test.txt")
    assert done.returncode == 1
    assert f"problem: 'q' in {tmp_path / 'test.txt'} is not a scene" in done.stdout
    assert (tmp_path / "lists" / "test.txt").read_text() == "b\n"


def test_benchmark_that_leaves_nothing_out_is_refused(prepare, write_root, make_scene, tmp_path):
    root = write_root([make_scene(name, frames=2) for name in HASHES[:3]])
    listed = tmp_path / "benchmark.txt"
    split = ("split", "--from", "chunks", root, "--output", tmp_path / "lists", "--benchmark", listed)
    for text, said in ((HASHES[5], "names none of this source's scenes"), ("a", "has no name of a DL3DV scene")):
        listed.write_text(text)
        done = prepare(*split)
        assert (done.returncode, said in done.stderr) == (2, True)
    assert not (tmp_path / "lists").exists()
    listed.write_text(f"{HASHES[0]}\n{HASHES[5]}\n")
    assert "has 140 scenes, 1 of the 2 names in the --benchmark file are here" in prepare(*split).stdout
    other = write_root([make_scene(name, frames=2) for name in "abc"], name="other")
    listed.write_text("a\nq\n")
    done = prepare("split", "--from", "chunks", other, "--output", tmp_path / "lists", "--benchmark", listed)
    assert "1 of the 2 names in the --benchmark file match no scene" in done.stdout


@pytest.mark.parametrize("name", ["#1 room", " room", "room ", "two\nrooms", "two\x0brooms"])
def test_names_that_a_list_cannot_hold_are_refused(tmp_path, name):
    with pytest.raises(InputError, match="cannot be written to a list"):
        write_split(tmp_path, divided(["room", name], test_share=0.0))
    assert not any(tmp_path.iterdir())
