"""A remote root gives the scenes, frames and clips of its local copy, by few requests."""

import pickle
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote

import fsspec
import numpy as np
import pytest
import torch
from range_server import RangeServer, serving

from openrayzer.composer.build import construct, plan, resolved
from openrayzer.data.loading.frame_cache import CachedScenes, FrameCache
from openrayzer.data.loading.loader import build_loader
from openrayzer.data.preparing.indexing import index_chunks
from openrayzer.data.sampling.view_samplers import Window
from openrayzer.data.sources.chunks import Chunks
from openrayzer.data.sources.images import Images
from openrayzer.data.sources.processed import Processed
from openrayzer.data.sources.video_tars import VideoTars
from openrayzer.interfaces import REGISTRIES, BrokenSceneError, Dataset, InputError
from openrayzer.machine.remote_paths import located
from openrayzer.planning.data_volume import data_volume
from openrayzer.settings import DataSettings, Source

KINDS: dict[str, Callable[[str], Dataset]] = {
    "chunks": lambda root: Chunks(root=f"{root}/chunks"),
    "chunks_unchecked": lambda root: Chunks(root=f"{root}/chunks", scan_limit=0),
    "chunks_indexed": lambda root: Chunks(root=f"{root}/indexed"),
    "processed": lambda root: Processed(root=f"{root}/processed"),
    "images": lambda root: Images(root=f"{root}/images"),
    "images_unchecked": lambda root: Images(root=f"{root}/images", scan_limit=0),
    "webdataset": lambda root: VideoTars(root=f"{root}/tars"),
    "webdataset_pattern": lambda root: VideoTars(root=f"{root}/tars/{{000000..000001}}.tar"),
}


VARIANTS = {"chunks_unchecked", "images_unchecked", "webdataset_pattern"}


def opened(kind: str, root: str | Path) -> Dataset:
    if kind.startswith("webdataset"):
        pytest.importorskip("av")
    dataset = KINDS[kind](str(root))
    dataset.open()
    return dataset


def assert_equal(dataset: Dataset, other: Dataset) -> None:
    assert len(dataset) == len(other) > 0
    assert [dataset.key(scene) for scene in range(len(dataset))] == [other.key(scene) for scene in range(len(other))]
    for scene in (0, len(dataset) - 1):
        count = dataset.num_frames(scene)
        assert count == other.num_frames(scene)
        chosen = [count - 1, 0, 2, 0]
        ours, theirs = dataset.read(scene, chosen), other.read(scene, chosen)
        for image, expected in zip(ours.images, theirs.images, strict=True):
            np.testing.assert_array_equal(image, expected)
        for camera, expected in ((ours.c2w, theirs.c2w), (ours.intrinsics, theirs.intrinsics)):
            assert (camera is None) == (expected is None)
            assert camera is None or (camera == expected).all()
        depths, expected_depths = dataset.depths(scene, chosen), other.depths(scene, chosen)
        assert (depths is None) == (expected_depths is None)
        if depths is not None and expected_depths is not None:
            assert all((depth == right).all() for depth, right in zip(depths, expected_depths, strict=True))


@pytest.mark.parametrize("kind", [pytest.param(kind, marks=[pytest.mark.slow] * (kind in VARIANTS)) for kind in KINDS])
def test_scenes_frames_and_cameras_are_those_of_the_local_copy(served: str, library: Path, kind: str):
    dataset, local = opened(kind, served), opened(kind, library)
    assert dataset.problems == local.problems == ()
    assert_equal(dataset, local)
    sent = pickle.loads(pickle.dumps(dataset))
    np.testing.assert_array_equal(sent.read(1, [1]).images[0], local.read(1, [1]).images[0])
    version = dataset.version(0, 0)
    assert all(version)
    assert version != dataset.version(0, 1)


@pytest.mark.parametrize("kind", ["chunks", "chunks_unchecked", "chunks_indexed", "processed", "webdataset_pattern"])
def test_a_web_server_need_not_list_its_folders(web: RangeServer, library: Path, kind: str):
    web.lists = False
    dataset = opened(kind, web.address)
    assert_equal(dataset, opened(kind, library))


def test_photos_need_a_listing_and_the_message_says_so(web: RangeServer):
    web.lists = False
    with pytest.raises(InputError, match=r"http://127.0.0.1:\d+/images cannot be listed: access is denied"):
        opened("images", web.address)


@pytest.mark.parametrize("kind", ["chunks", "chunks_indexed"])
def test_neighbouring_frames_of_a_clip_come_with_one_request(web: RangeServer, kind: str):
    dataset = opened(kind, web.address)
    dataset.read(1, [2])  # reads the table of the chunk
    web.requests.clear()
    dataset.read(1, [0, 3, 1, 5])
    assert len(web.gets(".torch")) == 1


def test_all_photos_of_a_clip_are_asked_for_at_the_same_time(web: RangeServer):
    dataset = opened("images", web.address)
    together = threading.Barrier(3, timeout=20)
    web.faults = [lambda request, body: together.wait() < 0] * 3
    dataset.read(0, [0, 1, 2])
    assert not web.faults
    assert not together.broken


def test_the_side_index_is_fetched_once_per_machine(web: RangeServer, own_copies: Path):
    for _ in range(2):
        dataset = opened("chunks_indexed", web.address)
        dataset.read(0, [0])
    assert len(web.gets("frame_index.bin")) == 1
    assert [path.name[-15:] for path in own_copies.glob("*.bin")] == ["frame_index.bin"]


def test_a_side_index_of_the_local_disk_serves_remote_chunks(served: str, library: Path):
    dataset = Chunks(root=f"{served}/chunks", frame_index=library / "indexed/train/frame_index.bin")
    dataset.open()
    assert dataset.problems == ()
    assert_equal(dataset, opened("chunks_indexed", library))


def test_remote_chunks_get_a_side_index_of_the_same_frames(served: str, library: Path, tmp_path: Path):
    index = tmp_path / "train/frame_index.bin"
    report = index_chunks(f"{served}/chunks/train", index, processes=1)
    assert (report.num_scenes, report.num_frames, report.problems) == (6, 36, ())
    dataset = Chunks(root=library / "chunks", frame_index=index)
    dataset.open()
    assert dataset.problems == ()
    assert_equal(dataset, opened("chunks", library))


def test_changed_remote_chunks_are_noticed(library: Path, tmp_path: Path):
    pytest.importorskip("aiohttp")
    shutil.copytree(library / "indexed", tmp_path / "indexed")
    with serving(tmp_path) as server:
        chunk = tmp_path / "indexed/train/000001.torch"
        content = chunk.read_bytes()
        chunk.write_bytes(content.replace(b"\x89PNG", b"\x89PNg"))
        dataset = opened("chunks_indexed", server.address)
        with pytest.raises(BrokenSceneError, match="do not match their checksum"):
            dataset.read(2, [0])
        chunk.write_bytes(content[:-1])
        dataset = opened("chunks_indexed", server.address)
        with pytest.raises(BrokenSceneError, match="was it cut short"):
            dataset.depths(3, [5])


def test_opening_again_notices_a_new_scene(bucket: str, library: Path):
    system, root = fsspec.filesystem("s3"), bucket.replace("library", "growing")
    system.put(str(library / "images/a b"), f"{root}/first", recursive=True)
    dataset = Images(root=root)
    dataset.open()
    assert len(dataset) == 1
    key = f"{root}/second/1.png".removeprefix("s3://bucket/")
    system.call_s3("put_object", Bucket="bucket", Key=key, Body=(library / "images/a b/view 1.png").read_bytes())
    dataset.open()
    assert len(dataset) == 2


@pytest.mark.parametrize("kind", ["chunks", "chunks_indexed", "processed", "images", "webdataset"])
def test_the_frame_cache_answers_for_the_server(web: RangeServer, library: Path, tmp_path: Path, kind: str):
    local, dataset = opened(kind, library), opened(kind, web.address)
    for epoch in range(2):
        cached = CachedScenes(dataset, FrameCache(tmp_path / "frames", 1.0))
        dataset.num_frames(0)
        web.requests.clear()
        ours, theirs = cached.read(0, [0, 2]), local.read(0, [0, 2])
        for image, expected in zip(ours.images, theirs.images, strict=True):
            np.testing.assert_array_equal(image, expected)
        assert epoch == 0 or not web.requests


@pytest.mark.parametrize("served", ["s3", "hf"], indirect=True)
def test_workers_load_the_clips_of_the_local_copy(served: str, library: Path):
    batches = []
    for root in (library, served):
        sources = (Source(dataset=Chunks(root=f"{root}/indexed")), Source(dataset=Images(root=f"{root}/images")))
        settings = DataSettings(
            train=sources,
            view_sampler=Window(num_context=2, num_target=1, min_frame_distance=2, max_frame_distance=2),
            image_size=(16, 16),
            workers=2,
            prefetch=1,
        )
        loader = build_loader(settings, batch_size_per_rank=2, rank=0, world_size=1, seed=3)
        batches.append([next(loader) for _ in range(4)])
        assert loader.problems == ()
    for expected, ours in zip(*batches, strict=True):
        assert expected.scenes == ours.scenes
        assert torch.equal(expected.images, ours.images)
        assert torch.equal(expected.frames, ours.frames)
        assert not ours.problems


def test_the_plan_of_a_run_counts_the_bytes_from_servers(web: RangeServer, library: Path):
    volumes = []
    for root in (web.address, library):
        window = Window(num_context=2, num_target=1, min_frame_distance=2, max_frame_distance=2)
        source = Source(dataset=Chunks(root=f"{root}/indexed"))
        settings = DataSettings(train=(source,), view_sampler=window, image_size=(16, 16))
        volumes.append(data_volume(settings, seed=0, clips=2).read)
    far, near = volumes
    assert near <= far < 3 * near  # requests also fetch the frames between


def test_an_address_survives_paths_that_join_its_slashes():
    for text in ("s3://bucket/re10k", "hf://datasets/owner/name/re10k", "https://host:8000/a%20b/c"):
        path = located(Path(text))
        assert path == located(text)
        assert located(path) is path
        assert str(path / "train") == f"{unquote(text)}/train"
        assert pickle.loads(pickle.dumps(path)) == path
    assert located("file:///data/re10k") == Path("/data/re10k")
    assert located("/data/s3:/x") == Path("/data/s3:/x")


def test_experiments_may_name_remote_roots(bucket: str, library: Path):
    spec = {"type": "chunks", "root": f"{bucket}/chunks", "frame_index": f"{bucket}/indexed/train/frame_index.bin"}
    planned = plan(spec, Dataset, registries=REGISTRIES)
    dataset = construct(planned)
    dataset.open()
    assert_equal(dataset, opened("chunks_indexed", library))
    assert spec.items() <= resolved(planned).items()
