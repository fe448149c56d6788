"""Reading frame by frame is reading: the same pixels and cameras, each cut to size before the next is decoded."""

from collections.abc import Sequence

import numpy as np
import pytest

from openrayzer.data.loading.clips import read_clip
from openrayzer.data.loading.frame_cache import CachedScenes, FrameCache
from openrayzer.data.pixels import resizing
from openrayzer.data.sources import chunks as chunks_module
from openrayzer.data.sources.chunks import Chunks
from openrayzer.interfaces import BrokenSceneError, Dataset, Frames, ViewChoice

CHOICE = ViewChoice(context=(1, 6), target=(3, 4), order=(4, 1, 6, 3))
SIZE = (16, 16)


class OnlyRead(Dataset):
    """A source of somebody who knows nothing of ``stream``."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset, self.posed = dataset, dataset.posed

    def open(self) -> None: ...

    def __len__(self) -> int:
        return len(self.dataset)

    def key(self, scene: int) -> str:
        return self.dataset.key(scene)

    def num_frames(self, scene: int) -> int:
        return self.dataset.num_frames(scene)

    def read(self, scene: int, frames: Sequence[int]) -> Frames:
        return Frames.joined([self.dataset.read(scene, [frame]) for frame in frames])


@pytest.fixture
def chunks(write_root, make_scene) -> Chunks:
    dataset = Chunks(root=write_root([make_scene("a"), make_scene("b")]))
    dataset.open()
    return dataset


def assert_same(some: Frames, others: Frames) -> None:
    for image, other in zip(some.images, others.images, strict=True):
        np.testing.assert_array_equal(image, other)
    np.testing.assert_array_equal(some.c2w, others.c2w)
    np.testing.assert_array_equal(some.intrinsics, others.intrinsics)


@pytest.mark.parametrize("cached", [False, True])
def test_stream_gives_each_frame_in_the_order_asked_for(chunks, tmp_path, cached):
    dataset = CachedScenes(chunks, FrameCache(tmp_path / "cache", 0.1)) if cached else chunks
    for _ in range(2):
        frames = [5, 0, 5, 2]
        for frame, part in zip(frames, dataset.stream(1, frames), strict=True):
            assert_same(part, chunks.read(1, [frame]))


def test_source_without_stream_gives_the_same_clips(chunks):
    clip = read_clip(chunks, 0, CHOICE, image_size=SIZE)
    other = read_clip(OnlyRead(chunks), 0, CHOICE, image_size=SIZE)
    for name in ("images", "frames", "context", "target", "c2w", "intrinsics"):
        np.testing.assert_array_equal(getattr(clip, name), getattr(other, name))


def test_each_image_is_cut_before_the_next_is_decoded(chunks, monkeypatch):
    done = []

    def noted(module, name):
        work = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *given, **how: (done.append(name), work(*given, **how))[1])

    noted(chunks_module, "decode_image")
    noted(resizing, "fit_into")
    read_clip(chunks, 0, CHOICE, image_size=SIZE)
    assert done == ["decode_image", "fit_into"] * 4


def test_broken_frame_is_named_when_it_is_asked_for(chunks):
    with pytest.raises(BrokenSceneError, match="frame 99"):
        list(chunks.stream(0, [1, 99]))


def test_images_of_different_sizes_keep_their_own_intrinsics():
    rows = np.array([[0.5, 0.7, 0.5, 0.5], [0.5, 0.7, 0.5, 0.5], [0.6, 0.8, 0.5, 0.4]], np.float32)
    sizes = [(20, 40), (32, 32), (20, 40)]
    frames = Frames(
        [np.zeros((*size, 3), np.uint8) for size in sizes], np.tile(np.eye(4, dtype=np.float32), (3, 1, 1)), rows
    )
    _, intrinsics = resizing.fit_frames(frames.each(), np.empty((3, *SIZE, 3), np.uint8))
    expected = [resizing.fit_intrinsics(row, size, SIZE) for row, size in zip(rows, sizes, strict=True)]
    np.testing.assert_array_equal(intrinsics, expected)
    assert not np.allclose(intrinsics[0], intrinsics[1])


def test_frames_are_joined_as_they_were_parted():
    frames = Frames([np.full((2, 2, 3), value, np.uint8) for value in range(3)], np.zeros((3, 4, 4)), np.ones((3, 4)))
    assert_same(Frames.joined(frames.each()), frames)
    assert Frames.joined([]) == Frames([], None, None)
    unposed = Frames(frames.images[:1], None, None)
    assert Frames.joined([frames, unposed]).c2w is None
