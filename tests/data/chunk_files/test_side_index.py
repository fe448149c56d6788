"""The side index agrees with its chunks, and every number in it is checked."""

import os
import shutil
from dataclasses import replace

import numpy as np
import pytest

from openrayzer.data.chunk_files.format import write_chunk
from openrayzer.data.chunk_files.side_index import FRAME, FRAME_INDEX_NAME, chunk_state, writing_frame_index
from openrayzer.data.preparing.indexing import index_chunks
from openrayzer.data.sources.chunks import Chunks
from openrayzer.interfaces import BrokenSceneError, InputError


@pytest.fixture
def indexed(write_root, make_scene):
    """A root of two chunks with a side index."""
    root = write_root([make_scene("a", frames=5), make_scene("b", frames=3)], [make_scene("c", frames=4)])
    index_chunks(root / "train", root / "train" / FRAME_INDEX_NAME, processes=1)
    return root


def opened(root, **settings) -> Chunks:
    dataset = Chunks(root=root, **settings)
    dataset.open()
    return dataset


def uses_index(dataset: Chunks) -> bool:
    return dataset._index is not None


def everything(dataset: Chunks) -> list:
    content = []
    for scene in range(len(dataset)):
        frames = dataset.read(scene, range(dataset.num_frames(scene)))
        content.append((dataset.key(scene), np.stack(frames.images), frames.c2w, frames.intrinsics))
    return content


def assert_equal(first: list, second: list) -> None:
    assert [scene[0] for scene in first] == [scene[0] for scene in second]
    for one, other in zip(first, second, strict=True):
        for left, right in zip(one[1:], other[1:], strict=True):
            np.testing.assert_array_equal(left, right)


def test_scenes_are_those_of_the_chunks(indexed, monkeypatch):
    dataset = opened(indexed)
    assert uses_index(dataset)
    assert dataset.problems == ()
    (indexed / "train" / FRAME_INDEX_NAME).rename(indexed / "elsewhere.bin")
    plain = opened(indexed)
    assert not uses_index(plain)
    given = opened(indexed, frame_index=indexed / "elsewhere.bin")
    assert uses_index(given)
    assert_equal(everything(given), everything(plain))


def test_index_moves_with_its_folder_and_survives_copying(indexed, tmp_path):
    before = everything(opened(indexed))
    shutil.copytree(indexed, tmp_path / "copy", copy_function=shutil.copyfile)  # the copy has new times of change
    shutil.rmtree(indexed)
    dataset = opened(tmp_path / "copy")
    assert uses_index(dataset)
    assert_equal(everything(dataset), before)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda train, scene: write_chunk(train / "000001.torch", [scene("c", frames=4), scene("d")]),
            "has other content",
        ),
        (lambda train, scene: write_chunk(train / "000002.torch", [scene("d")]), "000002.torch is new"),
        (lambda train, scene: (train / "000001.torch").unlink(), "000001.torch is gone"),
        (lambda train, scene: os.truncate(train / "000001.torch", 100), "000001.torch has other content"),
    ],
)
def test_index_of_changed_chunks_is_named_and_not_used(indexed, make_scene, change, said):
    change(indexed / "train", make_scene)
    dataset = opened(indexed)
    assert not uses_index(dataset)
    assert f"{FRAME_INDEX_NAME} is not used: the chunks have changed since: " in dataset.problems[0]
    assert said in dataset.problems[0]
    assert "openrayzer prepare index" in dataset.problems[0]


def test_chunk_of_equal_size_with_other_cameras_is_noticed(indexed, make_scene):
    scene = make_scene("c", frames=4)
    path = indexed / "train" / "000001.torch"
    size = path.stat().st_size
    write_chunk(path, [replace(scene, cameras=scene.cameras * np.float32(1.5))])
    assert path.stat().st_size == size
    assert not uses_index(opened(indexed))


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.9, 0.999])
def test_cut_index_is_named_and_not_used(indexed, share):
    before = everything(opened(indexed))
    path = indexed / "train" / FRAME_INDEX_NAME
    os.truncate(path, int(path.stat().st_size * share))
    dataset = opened(indexed)
    assert not uses_index(dataset)
    assert len(dataset.problems) == 1
    assert_equal(everything(dataset), before)


def test_damaged_index_never_gives_other_data(indexed):
    before = {key: scene for key, *scene in everything(opened(indexed))}
    path = indexed / "train" / FRAME_INDEX_NAME
    original, generator = path.read_bytes(), np.random.default_rng(0)
    for _ in range(200):
        data = bytearray(original)
        for place in generator.integers(0, len(data), 3):
            data[place] = generator.integers(256)
        path.write_bytes(data)
        dataset = opened(indexed)
        for scene in range(len(dataset)):
            images, c2w, intrinsics = before[dataset.key(scene)]
            try:
                frames = dataset.read(scene, range(dataset.num_frames(scene)))
            except BrokenSceneError as error:
                assert "make it again" in str(error)  # noqa: PT017
                continue
            np.testing.assert_array_equal(np.stack(frames.images), images)
            np.testing.assert_array_equal(frames.c2w, c2w)
            np.testing.assert_array_equal(frames.intrinsics, intrinsics)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"offset": -1}, "beyond the end of its chunk"),
        ({"offset": 1 << 60}, "beyond the end of its chunk"),
        ({"size": 0xFFFFFFFF}, "beyond the end of its chunk"),
        ({"offset": 40}, "do not match their checksum"),
        ({"size": 0}, "has no bytes"),
    ],
)
def test_row_that_lies_is_refused(indexed, change, said):
    path = indexed / "train" / "000001.torch"
    table = opened(indexed)._table(2)
    rows = table.images.copy()
    for name, value in change.items():
        rows[name] = value
    states = [chunk_state(chunk) for chunk in sorted(path.parent.glob("*.torch"))]
    with writing_frame_index(path.parent / FRAME_INDEX_NAME, posed=True) as writer:
        writer.chunks += states
        writer.add("c", 1, rows, table.cameras)
    dataset = opened(indexed)
    assert uses_index(dataset)
    with pytest.raises(BrokenSceneError, match=said):
        dataset.read(0, [1])


@pytest.mark.parametrize(
    "scenes",
    [
        [("../evil", 0, 2)],
        [("a", 7, 2)],
        [("a", -1, 2)],
        [("a", 0, 2), ("a", 0, 2)],
        [("a", 0, 10**12)],
        [("a", 0, 0)],
        [(3, 0, 2)],
    ],
)
def test_table_that_lies_is_not_used(indexed, scenes):
    train = indexed / "train"
    with writing_frame_index(train / FRAME_INDEX_NAME, posed=True) as writer:
        writer.chunks += [chunk_state(chunk) for chunk in sorted(train.glob("*.torch"))]
        for _ in scenes:
            writer.add("a", 0, np.zeros(2, FRAME), np.zeros((2, 18), np.float32))
        writer._scenes = [(key, chunk, count, 0) for key, chunk, count in scenes]
    assert not uses_index(opened(indexed))


def test_index_without_cameras_serves_scenes_without(write_root, make_scene):
    root = write_root([replace(make_scene("a"), cameras=None)])
    with pytest.raises(InputError, match="has no tensor 'cameras'"):
        opened(root)
    plain = opened(root, posed=False)
    index_chunks(root / "train", root / "train" / FRAME_INDEX_NAME, processes=1, posed=False)
    dataset = opened(root, posed=False)
    assert uses_index(dataset)
    for frames in (plain.read(0, [3]), dataset.read(0, [3])):
        assert tuple(frames.images[0][0, 0]) == (3, 252, 7)
        assert frames.c2w is None
        assert frames.intrinsics is None
    with pytest.raises(InputError, match="was made without cameras"):
        opened(root)


def test_index_named_but_absent_is_a_problem(write_root, make_scene, tmp_path):
    dataset = opened(write_root([make_scene("a")]), frame_index=tmp_path / "nowhere.bin")
    assert len(dataset) == 1
    assert "nowhere.bin is not used: it cannot be read: No such file" in dataset.problems[0]
