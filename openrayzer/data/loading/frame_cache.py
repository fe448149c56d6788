"""Cache of decoded frames on a disk or in shared memory, shared by all processes of a machine.

Each frame is one file. The origin of the frame names the file, and the file stores a digest of the state of that
origin; if the origin has changed, the frame is ignored. Every file under its final name is complete. The frames are
spread over 64 folders, each with a 64th of the space and a lock. A process that finds the lock taken does not store its
frame. Frames are never evicted: scenes come in random order, so eviction would only cost time.
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
from openrayzer.machine.writing import whole_file

LOGGER = logging.getLogger(__name__)

_HEAD = struct.Struct("<8s16sQIIQ")  # name, digest of the state, sum, height, width, has a camera
_NAME = b"ORZFRAM1"
_CAMERA = 20  # float32: c2w row by row, intrinsics
_SHARDS = 64
_FREE_SHARE = 0.05  # share of the file system that stays free


@dataclass(frozen=True)
class CachedFrame:
    """One frame: uint8 (h, w, 3), and float32 (20,): c2w row by row, then intrinsics; None without a camera."""

    image: np.ndarray
    camera: np.ndarray | None


class FrameCache:
    """Frames by their origin and its state, see ``Dataset.version``.

    Args:
        folder: folder of the files; created if missing.
        gigabytes: largest size of all files together, in 1e9 bytes.

    Raises:
        InputError: the folder cannot be created or written to.
    """

    def __init__(self, folder: Path, gigabytes: float) -> None:
        self.folder, self.shard_bytes = folder, int(gigabytes * 1e9 / _SHARDS)
        self._counted: set[int] = set()  # folders whose bytes this process has counted
        self._failed = False
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"data.cache: {folder} cannot be made: {error.strerror or error}") from error
        if not os.access(folder, os.W_OK | os.X_OK):
            raise InputError(f"data.cache: {folder} cannot be written to")

    def get(self, place: str, state: str) -> CachedFrame | None:
        """The stored frame; None if there is none or its origin has changed."""
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
        """Store a frame if there is space and no other process holds the lock of its folder; never raises OSError."""
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
            LOGGER.warning("data.cache: %s stores no more frames: %s", self.folder, error.strerror or error)

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
            with whole_file(path, flush=False) as temporary:
                temporary.write_bytes(data)
            os.pwrite(lock, used.to_bytes(8, "little"), 0)

    def _used(self, shard: Path, lock: int) -> int:
        """Bytes in a locked folder: counted by the first call of a process, then read from the lock file.

        Counting also deletes the unfinished files of killed processes.
        """
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
    """A dataset with a frame cache; frames from the cache are equal to the last bit.

    Args:
        dataset: the opened dataset.
        cache: cache of its frames.
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
    """Hold a lock file; yields its descriptor, or -1 if another process holds it."""
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
    """Checksum: sum of the body as 64-bit numbers plus the bytes of the header's sizes; far faster than CRC-32."""
    whole = (len(data) - _HEAD.size) // 8 * 8
    numbers = np.frombuffer(data, np.uint64, whole // 8, _HEAD.size)
    rest = sum(data[_HEAD.size + whole :]) + sum(data[32:48])
    return (int(numbers.sum(dtype=np.uint64)) + rest) % 2**64
