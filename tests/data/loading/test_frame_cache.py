"""A cache of decoded frames changes nothing but the time, whatever happens to it or to the sources."""

import errno
import logging
import os
import threading
from itertools import islice

import numpy as np
import pytest

from openrayzer.data.loading.frame_cache import CachedFrame, CachedScenes, FrameCache
from openrayzer.data.loading.loader import build_loader
from openrayzer.data.sampling.view_samplers import Window
from openrayzer.data.sources.chunks import Chunks
from openrayzer.data.sources.images import Images
from openrayzer.interfaces import BrokenSceneError, Dataset, Frames, InputError
from openrayzer.settings import CacheSettings, DataSettings, Source

WINDOW = Window(num_context=2, num_target=2, min_frame_distance=3, max_frame_distance=6)
CAMERA = np.arange(20, dtype=np.float32)


def frame(seed: int = 0, size: tuple[int, int] = (5, 7)) -> CachedFrame:
    image = np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
    return CachedFrame(image, CAMERA + seed)


def files(folder) -> list:
    return sorted(path for path in folder.glob("*/*") if not path.name.startswith("."))


def loaded(dataset: Dataset, cache: CacheSettings | None, *, workers: int = 0) -> list:
    settings = DataSettings(
        train=(Source(dataset=dataset),), view_sampler=WINDOW, image_size=(16, 16), workers=workers, cache=cache
    )
    return list(islice(build_loader(settings, batch_size_per_rank=2, rank=0, world_size=1, seed=0), 8))


def assert_equal(some: list, others: list) -> None:
    for one, other in zip(some, others, strict=True):
        assert one.scenes == other.scenes
        np.testing.assert_array_equal(one.images, other.images)
        np.testing.assert_array_equal(one.cameras.c2w, other.cameras.c2w)
        np.testing.assert_array_equal(one.cameras.intrinsics, other.cameras.intrinsics)


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_are_the_same_to_the_last_bit(write_root, make_scene, tmp_path, monkeypatch, workers):
    root = write_root([make_scene("a"), make_scene("b")], [make_scene("c")])
    plain = loaded(Chunks(root=root), None)
    cache = CacheSettings(folder=tmp_path / "cache", gigabytes=0.1)
    assert_equal(loaded(Chunks(root=root), cache, workers=workers), plain)
    assert files(cache.folder)
    monkeypatch.setattr("openrayzer.data.sources.chunks.decode_image", None)  # all frames come from the cache now
    if not workers:
        assert_equal(loaded(Chunks(root=root), cache), plain)


def test_frame_comes_back_as_it_was_put(tmp_path):
    cache = FrameCache(tmp_path, 0.1)
    assert cache.get("a", "1") is None
    cache.put("a", "1", frame())
    cache.put("b", "1", CachedFrame(frame(1).image, None))
    np.testing.assert_array_equal(cache.get("a", "1").image, frame().image)
    np.testing.assert_array_equal(cache.get("a", "1").camera, CAMERA)
    assert cache.get("b", "1").camera is None


def test_changed_source_is_read_anew_and_takes_no_more_room(tmp_path):
    cache = FrameCache(tmp_path, 0.1)
    cache.put("a", "1", frame(0))
    assert cache.get("a", "2") is None
    cache.put("a", "2", frame(1))
    np.testing.assert_array_equal(cache.get("a", "2").image, frame(1).image)
    assert len(files(tmp_path)) == 1


def test_chunk_that_was_written_again_is_read_again(write_root, make_scene, make_picture, tmp_path):
    cache = FrameCache(tmp_path / "cache", 0.1)
    for value in (10, 200):
        scene = make_scene("a")
        scene.images[3] = make_picture(value)
        dataset = Chunks(root=write_root([scene]))
        dataset.open()
        assert CachedScenes(dataset, cache).read(0, [3]).images[0][0, 0, 0] == value


def test_image_file_that_was_changed_is_read_again(make_picture, tmp_path):
    folder = tmp_path / "images" / "scene"
    folder.mkdir(parents=True)
    for number in range(4):
        (folder / f"{number}.png").write_bytes(make_picture(number))
    dataset, cache = Images(root=tmp_path / "images"), FrameCache(tmp_path / "cache", 0.1)
    dataset.open()
    cached = CachedScenes(dataset, cache)
    assert [image[0, 0, 0] for image in cached.read(0, [2, 1, 2]).images] == [2, 1, 2]
    (folder / "2.png").write_bytes(make_picture(77))
    assert [image[0, 0, 0] for image in cached.read(0, [1, 2]).images] == [1, 77]
    (folder / "2.png").unlink()
    with pytest.raises(BrokenSceneError, match="frame 2"):
        cached.read(0, [1, 2])


@pytest.mark.parametrize("damage", [b"", b"nonsense", None])
def test_damaged_file_is_no_frame(tmp_path, damage):
    cache = FrameCache(tmp_path, 0.1)
    cache.put("a", "1", frame())
    (file,) = files(tmp_path)
    whole = file.read_bytes()
    file.write_bytes(whole[:150] + bytes(8) + whole[158:] if damage is None else damage)
    assert cache.get("a", "1") is None
    cache.put("a", "1", frame())
    assert cache.get("a", "1") is not None


def test_size_is_kept_over_processes_and_restarts(tmp_path):
    megabyte = 1e-3
    for restart in range(3):
        caches = [FrameCache(tmp_path, megabyte) for _ in range(2)]
        for number in range(400):
            caches[number % 2].put(f"{restart} {number}", "1", frame(number, (40, 50)))
    used = sum(file.stat().st_size for file in files(tmp_path))
    assert 0.5e6 < used <= 1e6


def test_files_of_a_killed_process_are_deleted(tmp_path):
    first = FrameCache(tmp_path, 0.1)
    first.put("a", "1", frame())
    (file,) = files(tmp_path)
    left = file.with_name(".left.tmp")
    left.write_bytes(b"half")
    FrameCache(tmp_path, 0.1).put("a", "2", frame())
    assert not left.exists()


def test_full_disk_ends_writing_with_one_warning(tmp_path, monkeypatch, caplog):
    cache = FrameCache(tmp_path, 0.1)
    cache.put("a", "1", frame())

    def full(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("openrayzer.data.loading.frame_cache.os.replace", full)
    with caplog.at_level(logging.WARNING):
        cache.put("b", "1", frame())
        cache.put("c", "1", frame())
    assert [record.message for record in caplog.records] == [
        f"data.cache: {tmp_path} stores no more frames: No space left on device"
    ]
    assert cache.get("b", "1") is None
    assert cache.get("a", "1") is not None
    assert not list(tmp_path.glob("*/.*.tmp"))


def test_the_last_of_a_disk_is_left_free(tmp_path, monkeypatch):
    monkeypatch.setattr("openrayzer.data.loading.frame_cache._FREE_SHARE", 1.0)
    cache = FrameCache(tmp_path, 0.1)
    cache.put("a", "1", frame())
    assert not files(tmp_path)


def test_many_at_once_do_not_disturb_each_other(tmp_path):
    def work(cache: FrameCache) -> None:
        for number in range(60):
            cache.put(str(number % 20), "1", frame(number % 20))
            found = cache.get(str(number % 20), "1")
            if found is not None and not np.array_equal(found.image, frame(number % 20).image):
                wrong.append(number)

    wrong: list[int] = []
    threads = [threading.Thread(target=work, args=(FrameCache(tmp_path, 0.1),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert len(files(tmp_path)) == 20


def test_source_that_cannot_tell_its_state_is_not_cached(tmp_path):
    class Plain(Dataset):
        posed = False
        reads = 0

        def open(self) -> None: ...

        def __len__(self) -> int:
            return 1

        def key(self, scene: int) -> str:
            return "a"

        def num_frames(self, scene: int) -> int:
            return 10

        def read(self, scene, frames) -> Frames:
            self.reads += 1
            return Frames([np.zeros((2, 2, 3), np.uint8) for _ in frames], None, None)

    plain = Plain()
    cached = CachedScenes(plain, FrameCache(tmp_path, 0.1))
    assert len(cached.read(0, [1, 2]).images) == len(cached.read(0, [1, 2]).images) == 2
    assert plain.reads == 2
    assert not files(tmp_path)


def test_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"data\.cache: .*file/cache cannot be made"):
        FrameCache(tmp_path / "file" / "cache", 1.0)


@pytest.mark.parametrize("gigabytes", [0.0, -1.0, float("nan"), float("inf")])
def test_size_must_be_sane(tmp_path, gigabytes):
    with pytest.raises(InputError, match="gigabytes must be"):
        CacheSettings(folder=tmp_path, gigabytes=gigabytes)
