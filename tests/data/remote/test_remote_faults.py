"""Servers that fail, cut, lie or go away: each fault is named and bounded, and no message tells a secret."""

import errno
import json
import logging
import os
import socket
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from range_server import RangeServer, cuts, denies, fails, lies, serving, shortens, waits

from openrayzer.data.loading.frame_cache import CachedScenes, FrameCache
from openrayzer.data.loading.loader import ClipLoader, build_loader
from openrayzer.data.sampling.view_samplers import Window
from openrayzer.data.sources.chunks import Chunks
from openrayzer.data.sources.images import Images
from openrayzer.data.sources.synthetic import SyntheticRooms
from openrayzer.interfaces import BrokenSceneError, InputError
from openrayzer.machine.remote_copies import local_copy
from openrayzer.machine.remote_paths import located
from openrayzer.machine.remote_requests import PATIENCE, failure_of
from openrayzer.machine.retries import TRANSIENT
from openrayzer.settings import DataSettings, Source

aiohttp = pytest.importorskip("aiohttp")


def opened(web: RangeServer) -> Chunks:
    dataset = Chunks(root=f"{web.address}/indexed")
    dataset.open()
    return dataset


@pytest.mark.parametrize("fault", [fails, cuts, shortens, waits])
def test_a_passing_fault_changes_no_pixel(web: RangeServer, impatient, fault: Callable[..., bool], caplog):
    dataset = opened(web)
    expected = dataset.read(0, [0, 1]).images
    web.faults = [fault]
    ours = dataset.read(0, [0, 1]).images
    assert not web.faults
    for image, right in zip(ours, expected, strict=True):
        np.testing.assert_array_equal(image, right)
    assert ("trying again" in caplog.text) == (fault is not waits)


def test_a_minute_without_an_answer_is_waited_out():
    assert 60 < sum(PATIENCE) < 120


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        (shortens, "the server sent .* bytes instead of the"),
        (lies, "do not match their checksum"),
        (denies, "access is denied; the client of http:// takes its credentials from its own environment"),
    ],
)
def test_a_lasting_fault_of_a_file_names_it(web: RangeServer, impatient, fault: Callable[..., bool], text: str):
    dataset = opened(web)
    web.faults = [fault] * 5
    with pytest.raises(BrokenSceneError, match=rf"indexed/train/000000.torch: .*{text}"):
        dataset.read(0, [0, 1])
    assert len(web.faults) >= 3  # a fault that does not pass is not asked about for long


def test_a_server_without_range_requests_is_named(web: RangeServer, impatient):
    dataset = opened(web)
    web.ranges = False
    with pytest.raises(BrokenSceneError, match="it may not support range requests"):
        dataset.read(0, [0, 1])


@pytest.mark.parametrize("workers", [0, 1])
def test_a_run_whose_server_goes_away_ends_with_its_name(library: Path, impatient, workers: int):
    with serving(library) as server:
        dataset = opened(server)
        settings = DataSettings(
            train=(Source(dataset=dataset),),
            view_sampler=Window(num_context=2, num_target=1, min_frame_distance=2, max_frame_distance=2),
            image_size=(16, 16),
            workers=workers,
            prefetch=1,
        )
        loader = build_loader(settings, batch_size_per_rank=1, rank=0, world_size=1, seed=0)
        next(loader)
        server.faults = [fails] * 1000
        if workers:
            assert_ends(loader)
    if not workers:  # a worker inherits the open port of a server in this process
        assert_ends(loader)


def assert_ends(loader: ClipLoader) -> None:
    with pytest.raises(InputError, match=r"^http://127.0.0.1:\d+/.*torch was asked for 0 s and did not answer: "):
        list(islice(loader, 5))


def test_a_server_that_is_not_there_ends_the_opening(impatient, library: Path):
    with serving(library) as server:
        address = server.address
    for dataset in (Chunks(root=f"{address}/chunks"), Images(root=f"{address}/images")):
        with pytest.raises(InputError, match="did not answer"):
            dataset.open()


def test_scenes_are_not_left_out_because_of_a_lost_connection(library: Path, impatient):
    with serving(library) as server:
        dataset = Chunks(root=f"{server.address}/chunks")
        server.faults = [fails] * 100
        with pytest.raises(InputError, match=r"did not answer: the server answered with status 500"):
            dataset.open()


def test_a_missing_bucket_or_folder_is_named_without_the_credentials(bucket: str, impatient, caplog):
    caplog.set_level(logging.INFO)
    for root, text in [
        ("s3://nothing-here/re10k", "there is no folder s3://nothing-here/re10k, or it is empty"),
        (f"{bucket}/gone", f"the nearest that exists is {bucket}, with the folders chunks, images, indexed, processed"),
        (f"{bucket}/images", f"{bucket}/images has no folder 'train'; it has the folders a b, c"),
    ]:
        with pytest.raises(InputError) as caught:
            Chunks(root=root).open()
        assert text in str(caught.value)
        assert os.environ["AWS_SECRET_ACCESS_KEY"] not in caplog.text + str(caught.value)
    with pytest.raises(InputError, match=f"there is no folder {bucket}/gone; the nearest that exists is {bucket}, "):
        Images(root=f"{bucket}/gone").open()


def test_a_denied_bucket_is_named(bucket: str, impatient, web: RangeServer, monkeypatch):
    import fsspec

    monkeypatch.setenv("AWS_ENDPOINT_URL", web.address)
    fsspec.filesystem("s3").clear_instance_cache()
    monkeypatch.setattr("range_server.Handler.respond", lambda request: request.answer(403, b""))
    try:
        for dataset in (Chunks(root="s3://closed/re10k"), Images(root="s3://closed/photos")):
            with pytest.raises(
                InputError, match=r"s3://closed/\w+ cannot be listed: access is denied; the client of s3"
            ):
                dataset.open()
    finally:
        fsspec.filesystem("s3").clear_instance_cache()


def test_a_full_disk_for_the_side_index_is_named_and_leaves_nothing(web: RangeServer, own_copies: Path, monkeypatch):
    def full(source: object, target: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(InputError, match=r"frame_index.bin cannot be written to .*copies: No space left .*CACHE"):
        opened(web)
    assert [path.suffix for path in own_copies.iterdir()] == [".lock"]


def test_a_full_frame_cache_stops_storing_and_changes_no_pixel(web: RangeServer, tmp_path: Path, monkeypatch, caplog):
    dataset = opened(web)
    expected = dataset.read(0, [0, 1]).images
    monkeypatch.setattr(os, "replace", lambda *paths: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left")))
    cached = CachedScenes(dataset, FrameCache(tmp_path / "frames", 1.0))
    for image, right in zip(cached.read(0, [0, 1]).images, expected, strict=True):
        np.testing.assert_array_equal(image, right)
    assert "stores no more frames: No space left" in caplog.text
    assert not [path for path in (tmp_path / "frames").rglob("*") if path.is_file() and path.name != ".lock"]


def test_a_copy_that_is_cut_short_is_fetched_again(web: RangeServer, own_copies: Path):
    copy = local_copy(located(f"{web.address}/indexed/train/frame_index.bin"))
    whole = copy.read_bytes()
    copy.write_bytes(whole[:-9])
    assert local_copy(located(f"{web.address}/indexed/train/frame_index.bin")).read_bytes() == whole


def test_copies_that_nobody_uses_are_deleted(web: RangeServer, own_copies: Path):
    path = located(f"{web.address}/indexed/train/frame_index.bin")
    copy = local_copy(path)
    old, recent = (copy.with_name(copy.name.replace("-", f"-{name}", 1)) for name in "ab")
    for other in (old, recent):
        other.write_bytes(b"")
    os.utime(old, (0, time.time() - 31 * 86400))
    local_copy(path)
    assert copy.exists()
    assert recent.exists()
    assert not old.exists()


@pytest.mark.parametrize(
    "address",
    [
        "https://me:hunter2@host/data",
        "https://hunter2@host/data",
        "s3://key:hunter2@bucket/data",
        "https://host/clips.tar?X-Amz-Signature=hunter2",
    ],
)
@pytest.mark.parametrize("spelt", [str, Path])
def test_an_address_with_a_secret_is_refused_without_repeating_it(address: str, spelt: Callable[[str], object]):
    with pytest.raises(InputError, match="must not hold a user, a password or a query") as caught:
        Chunks(root=spelt(address))
    assert "hunter2" not in str(caught.value)


def test_messages_of_clients_lose_their_secrets():
    texts = [
        "cannot connect to https://me:hunter2@host:80/x/y.torch",
        "404 for url='https://cdn.host/x?X-Amz-Signature=hunter2&Expires=3' (see log)",
    ]
    for text in texts:
        found = failure_of(RuntimeError(text), "hf://datasets/a/b/c.torch")
        assert "hunter2" not in str(found)
        assert "host" in str(found)
    signed = aiohttp.ClientResponseError(None, (), status=503, message="https://host/x?sig=hunter2")
    assert (
        str(failure_of(signed, "https://host/x")) == "[Errno 5] the server answered with status 503: 'https://host/x'"
    )


def test_an_unknown_protocol_and_a_missing_client_are_named(monkeypatch):
    with pytest.raises(InputError, match="s4:// is not a protocol that fsspec knows; known are s3, gs, hf, https"):
        Chunks(root="s4://bucket/re10k")
    monkeypatch.setattr("fsspec.filesystem", lambda protocol: (_ for _ in ()).throw(ImportError("no gcsfs")))
    with pytest.raises(InputError, match=r"gs:// needs a package .*: pip install 'openrayzer\[gcs\]'"):
        Chunks(root="gs://bucket/re10k").open()


@pytest.mark.parametrize(
    ("root", "text"),
    [
        ("s3://", "s3:// names no place; an address is like s3://bucket/re10k"),
        ("zip://re10k::s3://bucket/re10k.zip", "chains two addresses"),
        ("ftp://host/re10k", "the client of ftp:// does not start: .* the variable FSSPEC_FTP gives it options"),
        ("s3://Re 10k/chunks", "Re 10k/chunks cannot be listed: .* Invalid bucket name"),
    ],
)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # fsspec's client of ftp://
def test_an_address_that_no_client_accepts_is_named_at_once(bucket: str, root: str, text: str):
    with pytest.raises(InputError, match=text):
        Chunks(root=root).open()


def test_protocols_may_be_in_capitals():
    assert located("S3://Bucket/Re10k") == located("s3://Bucket/Re10k")


@pytest.mark.parametrize(
    "passing", [socket.gaierror(socket.EAI_AGAIN, "no network"), json.JSONDecodeError("cut", "{", 1), ConnectionError()]
)
def test_a_lost_network_is_waited_out(passing: Exception):
    assert failure_of(passing, "https://host/x").errno in TRANSIENT
    assert failure_of(socket.gaierror(socket.EAI_NONAME, "unknown"), "https://host/x").errno not in TRANSIENT


def test_synthetic_rooms_are_written_to_the_local_disk_only():
    with pytest.raises(InputError, match="root must be a folder of the local disk, got s3://bucket/rooms"):
        SyntheticRooms(root="s3://bucket/rooms")
