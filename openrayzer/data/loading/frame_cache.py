"""Decoded frames kept on a disk or in shared memory, for all processes of a machine.

One file per frame, named by where the frame comes from; it says what the source was like, and is as good as missing
once that has changed. Files appear complete or not at all. Space is shared out to 64 folders; whoever writes into one
holds its lock, and whoever finds it taken does without. What is in the cache stays: scenes come in random order, so
pushing older frames out would only cost time.
"""

import fcntl
import hashlib
import logging
import os
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from openrayzer.interfaces import Dataset, Frames, InputError

LOGGER = logging.getLogger(__name__)

_HEAD = struct.Struct("<8s16sQIIQ")  # name, digest of the state, sum, height, width, has a camera
_NAME = b"ORZFRAM1"
_CAMERA = 20  # float32: c2w row by row, intrinsics
_SHARDS = 64
_FREE_SHARE = 0.05  # of the file system stays free


@dataclass(frozen=True)
class CachedFrame:
    """One frame; the camera is None where the source has none."""

    image: np.ndarray
    camera: np.ndarray | None


class FrameCache:
    """Frames by place and state of their source.

    Args:
        folder: where the files are; made if it is not there.
        gigabytes: how much they may take together, in 1e9 bytes.

    Raises:
        InputError: the folder cannot be made or written to.
    """

    def __init__(self, folder: Path, gigabytes: float) -> None:
        self.folder, self.shard_bytes = folder, int(gigabytes * 1e9 / _SHARDS)
        self._counted: set[int] = set()  # shards that this process has looked through
        self._failed = False
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"data.cache: {folder} cannot be made: {error.strerror or error}") from error
        if not os.access(folder, os.W_OK | os.X_OK):
            raise InputError(f"data.cache: {folder} cannot be written to")

    def get(self, place: str, state: str) -> CachedFrame | None:
        """The frame that was put there; None if there is none, or its source has changed."""
        try:
            data = self._path(place).read_bytes()
        except OSError:
            return None
        if len(data) < _HEAD.size:
            return None
        name, digest, checksum, height, width, posed = _HEAD.unpack_from(data)
        size = _HEAD.size + 4 * _CAMERA + height * width * 3
        if name != _NAME or digest != _digest(state) or len(data) != size or checksum != _sum(data):
            return None
        camera = np.frombuffer(data, np.float32, _CAMERA, _HEAD.size) if posed else None
        pixels = np.frombuffer(data, np.uint8, offset=_HEAD.size + 4 * _CAMERA)
        return CachedFrame(pixels.reshape(height, width, 3), camera)

    def put(self, place: str, state: str, frame: CachedFrame) -> None:
        """Keep a frame if there is room and nobody else is writing near it; never raises."""
        if self._failed:
            return
        camera = np.zeros(_CAMERA, np.float32) if frame.camera is None else frame.camera.astype(np.float32)
        body = camera.tobytes() + np.ascontiguousarray(frame.image).tobytes()
        height, width = frame.image.shape[:2]
        posed = int(frame.camera is not None)
        blank = _HEAD.pack(_NAME, _digest(state), 0, height, width, posed)
        data = _HEAD.pack(_NAME, _digest(state), _sum(blank + body), height, width, posed) + body
        try:
            self._write(self._path(place), data)
        except OSError as error:
            self._failed = True
            LOGGER.warning("data.cache: %s takes nothing more: %s", self.folder, error.strerror or error)

    def _path(self, place: str) -> Path:
        name = hashlib.sha256(place.encode("utf-8", "surrogatepass")).hexdigest()[:40]
        return self.folder / f"{int(name[:2], 16) % _SHARDS:02}" / name

    def _write(self, path: Path, data: bytes) -> None:
        space = os.statvfs(self.folder)
        if (space.f_bavail * space.f_frsize - len(data)) < _FREE_SHARE * space.f_blocks * space.f_frsize:
            return
        path.parent.mkdir(exist_ok=True)
        with _locked(path.parent / ".lock") as lock:
            if lock < 0:
                return
            used = self._used(path.parent, lock) - (path.stat().st_size if path.exists() else 0) + len(data)
            if used > self.shard_bytes:
                return
            temporary = path.with_name(f".{path.name}.tmp")
            try:
                temporary.write_bytes(data)
                os.replace(temporary, path)
            finally:
                temporary.unlink(missing_ok=True)
            os.pwrite(lock, used.to_bytes(8, "little"), 0)

    def _used(self, shard: Path, lock: int) -> int:
        """Bytes in a locked shard: counted once per process, which clears what a killed one left; then as noted."""
        noted = os.pread(lock, 8, 0)
        if int(shard.name) in self._counted and len(noted) == 8:
            return int.from_bytes(noted, "little")
        self._counted.add(int(shard.name))
        used = 0
        with os.scandir(shard) as entries:
            for entry in entries:
                if entry.name.endswith(".tmp"):
                    os.unlink(entry.path)
                else:
                    used += entry.stat().st_size
        return used


class CachedScenes(Dataset):
    """A source whose decoded frames are kept; what is read is the same to the last bit.

    Args:
        dataset: the source, opened.
        cache: where its frames are kept.
    """

    def __init__(self, dataset: Dataset, cache: FrameCache) -> None:
        self.dataset, self.cache = dataset, cache
        self.posed, self.problems = dataset.posed, dataset.problems

    def open(self) -> None:
        self.dataset.open()

    def __len__(self) -> int:
        return len(self.dataset)

    def key(self, scene: int) -> str:
        return self.dataset.key(scene)

    def num_frames(self, scene: int) -> int:
        return self.dataset.num_frames(scene)

    def read(self, scene: int, frames: Sequence[int]) -> Frames:
        return Frames.joined(self.stream(scene, frames))

    def stream(self, scene: int, frames: Sequence[int]) -> Iterator[Frames]:
        versions = {frame: self.dataset.version(scene, frame) for frame in frames}
        found = {frame: self.cache.get(*version) if version[0] else None for frame, version in versions.items()}
        decoded = self.dataset.stream(scene, [frame for frame, cached in found.items() if cached is None])
        for frame in frames:
            cached = found[frame]
            if cached is None:
                cached = found[frame] = _cached(next(decoded))
                if versions[frame][0]:
                    self.cache.put(*versions[frame], cached)
            yield _frames(cached)


def _cached(frames: Frames) -> CachedFrame:
    if frames.c2w is None or frames.intrinsics is None:
        return CachedFrame(frames.images[0], None)
    return CachedFrame(frames.images[0], np.concatenate([frames.c2w[0].reshape(16), frames.intrinsics[0]]))


def _frames(cached: CachedFrame) -> Frames:
    if cached.camera is None:
        return Frames([cached.image], None, None)
    return Frames([cached.image], cached.camera[None, :16].reshape(1, 4, 4), cached.camera[None, 16:])


@contextmanager
def _locked(path: Path) -> Iterator[int]:
    """The open lock file; -1 if somebody else holds it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield -1
        else:
            yield descriptor
    finally:
        os.close(descriptor)


def _digest(state: str) -> bytes:
    return hashlib.sha256(state.encode("utf-8", "surrogatepass")).digest()[:16]


def _sum(data: bytes) -> int:
    """Sum of all after the header as 64-bit numbers, and of the header's sizes; far faster than a CRC-32."""
    whole = (len(data) - _HEAD.size) // 8 * 8
    numbers = np.frombuffer(data, np.uint64, whole // 8, _HEAD.size)
    rest = sum(data[_HEAD.size + whole :]) + sum(data[32:48])
    return (int(numbers.sum(dtype=np.uint64)) + rest) % 2**64
