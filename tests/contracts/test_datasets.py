"""What every dataset promises: reads without side effects, rigid cameras, and errors that name the folder."""

import pickle
from pathlib import Path
from typing import get_type_hints

import numpy as np
import pytest
from small import entry_of, names, required

from openrayzer.interfaces import DATASETS, BrokenSceneError, Dataset, Frames, InputError

pytestmark = pytest.mark.parametrize("name", names(DATASETS))


@pytest.fixture
def dataset(small, name: str) -> Dataset:
    """The dataset, opened."""
    dataset = small(DATASETS, name)
    dataset.open()
    return dataset


def assert_equal(one: Frames, other: Frames) -> None:
    assert len(one.images) == len(other.images)
    assert all(np.array_equal(left, right) for left, right in zip(one.images, other.images, strict=True))
    for left, right in ((one.c2w, other.c2w), (one.intrinsics, other.intrinsics)):
        assert (left is None) == (right is None)
        assert left is None or np.array_equal(left, right)


def test_scenes_have_unique_keys_and_frames(dataset):
    keys = [dataset.key(scene) for scene in range(len(dataset))]
    assert keys
    assert len(set(keys)) == len(keys)
    assert all(dataset.num_frames(scene) >= 1 for scene in range(len(dataset)))
    assert dataset.problems == ()


def test_images_are_rgb_bytes_and_cameras_are_rigid(dataset):
    last = dataset.num_frames(0) - 1
    frames = dataset.read(0, [0, last])
    for image in frames.images:
        assert (image.dtype, image.ndim, image.shape[2]) == (np.uint8, 3, 3)
    assert [values is not None for values in (frames.c2w, frames.intrinsics)] == [dataset.posed] * 2
    if dataset.posed:
        assert (frames.c2w.shape, frames.intrinsics.shape) == ((2, 4, 4), (2, 4))
        assert frames.c2w.dtype == frames.intrinsics.dtype == np.float32
        rotation = frames.c2w[:, :3, :3]
        np.testing.assert_allclose(rotation @ rotation.transpose(0, 2, 1), np.tile(np.eye(3), (2, 1, 1)), atol=1e-5)
        assert (np.linalg.det(rotation) > 0).all()
        assert (frames.c2w[:, 3] == [0, 0, 0, 1]).all()
        assert ((frames.intrinsics > 0) & (frames.intrinsics < 10)).all()  # in units of the image size


def test_frames_come_in_the_requested_order_and_repeatedly(dataset):
    last = dataset.num_frames(0) - 1
    order = [last, 0, last, min(1, last)]
    assert_equal(dataset.read(0, order), Frames.joined(dataset.read(0, [frame]) for frame in order))


def test_stream_gives_what_read_gives(dataset):
    last = dataset.num_frames(0) - 1
    assert_equal(Frames.joined(dataset.stream(0, [last, 0])), dataset.read(0, [last, 0]))


def test_a_copy_in_another_process_reads_the_same(dataset):
    copy = pickle.loads(pickle.dumps(dataset))
    assert (len(copy), copy.key(0), copy.num_frames(0)) == (len(dataset), dataset.key(0), dataset.num_frames(0))
    assert_equal(copy.read(0, [0]), dataset.read(0, [0]))
    assert copy.version(0, 0) == dataset.version(0, 0)


def test_a_frame_beyond_the_scene_is_refused(dataset):
    with pytest.raises(BrokenSceneError):
        dataset.read(0, [dataset.num_frames(0)])


def test_the_error_for_a_folder_without_scenes_names_it(small, name, tmp_path: Path):
    entry = entry_of(DATASETS, name)
    folders = [p.name for p in required(entry) if get_type_hints(entry.target.__init__)[p.name] in (Path, Path | str)]
    if not folders:
        return
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "notes.txt").write_text("nothing to read here")
    with pytest.raises(InputError, match="empty"):
        small(DATASETS, name, **dict.fromkeys(folders, empty)).open()
