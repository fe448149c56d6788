"""Data sets on the local disk, and the same data sets behind real clients and servers on loopback."""

import io
import json
import os
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import fsspec
import numpy as np
import pytest
from hub_server import TOKEN, HubServer
from range_server import RangeServer, serving

from openrayzer.data.chunk_files.depth_maps import depth_png
from openrayzer.data.chunk_files.format import ChunkScene, cameras_to_rows, write_chunk, write_index
from openrayzer.data.preparing.indexing import index_chunks

SIZE = (48, 64)
HUB = "hf://datasets/owner/library"
ENVIRONMENT = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "hunter2", "AWS_DEFAULT_REGION": "us-east-1"}


def image(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 255, (*SIZE, 3), np.uint8)
    return cv2.imencode(".png", pixels)[1].tobytes()


def scene(key: str, seed: int, *, frames: int = 6) -> ChunkScene:
    c2w = np.tile(np.eye(4), (frames, 1, 1))
    c2w[:, 0, 3] = np.arange(frames)
    rows = cameras_to_rows(c2w, np.tile([0.8, 1.1, 0.5, 0.5], (frames, 1)))
    depths = [depth_png(np.full(SIZE, 1.0 + seed + frame)) for frame in range(frames)]
    images = [image(100 * seed + frame) for frame in range(frames)]
    return ChunkScene(key, rows, images, np.arange(frames), f"https://example.org/{key}", depths)


def write_chunks(folder: Path) -> None:
    names = {}
    for chunk in range(3):
        keys = [f"scene_{chunk}{place}" for place in range(2)]
        write_chunk(folder / f"{chunk:06}.torch", [scene(key, 2 * chunk + place) for place, key in enumerate(keys)])
        names |= dict.fromkeys(keys, f"{chunk:06}.torch")
    write_index(folder, names)


def write_processed(root: Path) -> None:
    lines = []
    for number, name in enumerate(("attic", "cellar")):
        entries = []
        (root / "images" / name).mkdir(parents=True)
        (root / "metadata").mkdir(exist_ok=True)
        for frame in range(4):
            (root / f"images/{name}/{frame:05}.png").write_bytes(image(1000 + 10 * number + frame))
            w2c = np.eye(4)
            w2c[0, 3] = -frame
            path = f"/elsewhere/images/{name}/{frame:05}.png"
            entries.append({"image_path": path, "fxfycxcy": [50.0, 51.0, 32.0, 24.0], "w2c": w2c.tolist()})
        (root / f"metadata/{name}.json").write_text(json.dumps({"scene_name": name, "frames": entries}))
        lines.append(f"/elsewhere/metadata/{name}.json")
    (root / "full_list.txt").write_text("\n".join(lines))


def write_images(root: Path) -> None:
    for number, name in enumerate(("a b", "c/d#1", "c/e 100%")):
        (root / name).mkdir(parents=True)
        for frame in (1, 2, 10):
            (root / name / f"view {frame}.png").write_bytes(image(2000 + 100 * number + frame))


def write_tars(root: Path) -> None:
    root.mkdir()
    for shard in range(2):
        with tarfile.open(root / f"{shard:06}.tar", "w") as archive:
            for clip in range(2):
                path = root / "clip.mp4"
                writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 10, (32, 24))
                for frame in range(5):
                    writer.write(np.full((24, 32, 3), (40 * frame, 0, 60 * shard + 20 * clip), np.uint8))
                writer.release()
                for ending, content in ((".json", b"{}"), (".mp4", path.read_bytes())):
                    member = tarfile.TarInfo(f"clip_{clip}{ending}")
                    member.size = len(content)
                    archive.addfile(member, io.BytesIO(content))
                path.unlink()


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data sets of four kinds; ``indexed`` has the chunks of ``chunks`` and a side index."""
    root = tmp_path_factory.mktemp("library")
    for name in ("chunks", "indexed"):
        write_chunks(root / name / "train")
    index_chunks(root / "indexed/train", root / "indexed/train/frame_index.bin", processes=1)
    write_processed(root / "processed")
    write_images(root / "images")
    write_tars(root / "tars")
    return root


@pytest.fixture(autouse=True)
def own_copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Local copies of remote files go to a folder of the test."""
    monkeypatch.setenv("OPENRAYZER_CACHE", str(tmp_path / "copies"))
    return tmp_path / "copies"


@pytest.fixture
def web(library: Path) -> Iterator[RangeServer]:
    """A web server of the library."""
    pytest.importorskip("aiohttp")
    with serving(library) as server:
        yield server


@pytest.fixture(scope="session")
def bucket(library: Path) -> Iterator[str]:
    """The library in a bucket of moto's server."""
    pytest.importorskip("s3fs")
    server_of = pytest.importorskip("moto.server", reason="needs moto with flask and flask-cors").ThreadedMotoServer
    server = server_of(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    before = dict(os.environ)
    os.environ.update(ENVIRONMENT, AWS_ENDPOINT_URL=f"http://{host}:{port}")
    system = fsspec.filesystem("s3")
    system.mkdir("bucket")
    system.put(str(library), "bucket/library", recursive=True)
    yield "s3://bucket/library"
    server.stop()
    os.environ.clear()
    os.environ.update(before)
    fsspec.filesystem("s3").clear_instance_cache()


@pytest.fixture
def hub(library: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RangeServer]:
    """The library as a data set of a server like the Hugging Face Hub; its address is ``HUB``."""
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with serving(library, HubServer) as server:
        # as the variable HF_ENDPOINT would, which is read when huggingface_hub is imported
        monkeypatch.setitem(fsspec.config.conf, "hf", {"endpoint": server.address})
        yield server


@pytest.fixture(scope="session")
def memory(library: Path) -> Iterator[str]:
    """The library in the memory of this process, through the simplest client of fsspec."""
    system = fsspec.filesystem("memory")
    system.put(str(library), "/library", recursive=True)
    yield "memory://library"
    system.rm("/library", recursive=True)


@pytest.fixture(params=["s3", "http", "hf"])
def served(request: pytest.FixtureRequest) -> str:
    """Address of the library, by each kind of client."""
    found = request.getfixturevalue({"s3": "bucket", "http": "web", "hf": "hub"}[request.param])
    return HUB if request.param == "hf" else getattr(found, "address", found)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Retries after no time."""

    def set_patience(*waits: float) -> None:
        monkeypatch.setattr("openrayzer.machine.remote_requests.PATIENCE", waits or (0.0, 0.0, 0.0))

    set_patience()
    return set_patience
