"""Dataset ``synthetic``: furnished rooms, rendered on first use and then read like other chunks."""

import json
import logging
import os
import shutil
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from openrayzer.data.sources.chunks import Chunks
from openrayzer.data.synthetic_rooms.motions import Motion
from openrayzer.data.synthetic_rooms.scenes import FilmSettings, usable_cores, write_rooms
from openrayzer.interfaces import DATASETS, Dataset, Frames, InputError
from openrayzer.machine.plain_files import MAX_FILE_BYTES, FileError, read_json
from openrayzer.machine.remote_paths import RemotePath, located

MANIFEST_NAME = "rooms.json"
FORMAT_VERSION = 2
"""Version of the images; it must change whenever equal settings give other images."""
_POLL_SECONDS = 0.5
_STALE_SECONDS = 3600.0
"""Age in seconds from which the lock of another host is ignored, because its processes are not visible. Two writers at
the same time are safe: they write equal content to separate folders, and only the first result is used."""

logger = logging.getLogger(__name__)


@DATASETS.register("synthetic")
class SyntheticRooms(Dataset):
    """Furnished rooms with exact cameras, ray-cast on the CPU on first use and stored as chunks.

    Focal lengths, motions, distances between frames, light and exposure differ from room to room. Held-out rooms have
    depth maps.

    Args:
        root: folder for the chunks; written once and then reused. Its rooms.json holds the settings below.
        split: "train" for training rooms, "test" for held-out rooms.
        num_train: number of training rooms.
        num_test: number of held-out rooms, all different from the training rooms.
        num_frames: number of frames per room.
        image_size: height and width in pixels.
        motion: speed of the hand-held camera; at 1 and a focal length of 1 it moves up to 15 cm and turns up to 7
            degrees per frame.
        seed: seed of rooms and camera paths.
        focal_range: smallest and largest focal length, relative to the longer side of the image; each room has one
            focal length, drawn from a log-uniform distribution.
        motions: kinds of motion, which follow each other from room to room: a turn of a person who stands still, an arc
            around a point ahead, forwards or backwards, sideways, a winding walk, and any of these with reversals.
        exposure: share of the rooms whose exposure and white balance change from frame to frame, 0 to 1.

    Raises:
        InputError: an argument is out of range.
    """

    posed = True

    def __init__(
        self,
        *,
        root: Path | str,
        split: Literal["train", "test"] = "train",
        num_train: int = 256,
        num_test: int = 16,
        num_frames: int = 24,
        image_size: tuple[int, int] = (96, 96),
        motion: float = 1.0,
        seed: int = 0,
        focal_range: tuple[float, float] = FilmSettings.focal_range,
        motions: tuple[Motion, ...] = FilmSettings.motions,
        exposure: float = FilmSettings.exposure,
    ) -> None:
        super().__init__()
        for name, value in (("num_train", num_train), ("num_test", num_test), ("num_frames", num_frames)):
            if value < 1:
                raise InputError(f"synthetic rooms: {name} must be 1 or more, got {value}")
        if min(image_size) < 8:
            raise InputError(f"synthetic rooms: image_size must be (height, width), 8 or more each, got {image_size}")
        if not 0 <= motion <= 10 or seed < 0:
            raise InputError(f"synthetic rooms: motion must be 0 to 10 and seed 0 or more, got {motion} and {seed}")
        if not 0.2 <= focal_range[0] <= focal_range[1] <= 10:
            raise InputError(
                f"synthetic rooms: focal_range must be (smallest, largest), between 0.2 and 10, got {focal_range}"
            )
        if not motions:
            raise InputError(f"synthetic rooms: motions must name one or more of {', '.join(get_args(Motion))}")
        if not 0 <= exposure <= 1:
            raise InputError(f"synthetic rooms: exposure must be 0 to 1, got {exposure}")
        self.root = located(root)
        if isinstance(self.root, RemotePath):
            raise InputError(f"synthetic rooms: root must be a folder of the local disk, got {self.root}")
        smallest, largest = map(float, focal_range)
        self.settings = FilmSettings(
            num_train, num_test, num_frames, image_size, float(motion), seed,
            (smallest, largest), tuple(motions), float(exposure),
        )  # fmt: skip
        self._chunks = Chunks(root=self.root, split=split)

    def open(self) -> None:
        """Write the rooms unless they exist, then open the chunks.

        Raises:
            InputError: the folder holds other files or other rooms, or cannot be written.
        """
        if not _is_ready(self.root, self.settings):
            _write_once(self.root, self.settings)
        self._chunks.open()
        self.problems = self._chunks.problems

    def __len__(self) -> int:
        return len(self._chunks)

    def key(self, scene: int) -> str:
        """The scene's name, e.g. ``room_00017``."""
        return self._chunks.key(scene)

    def num_frames(self, scene: int) -> int:
        """Number of frames of a room."""
        return self._chunks.num_frames(scene)

    def read(self, scene: int, frames: Sequence[int]) -> Frames:
        """Decode some frames, see ``Dataset.read``."""
        return self._chunks.read(scene, frames)

    def stream(self, scene: int, frames: Sequence[int]) -> Iterator[Frames]:
        """Decode some frames one at a time, see ``Dataset.stream``."""
        return self._chunks.stream(scene, frames)

    def depths(self, scene: int, frames: Sequence[int]) -> list[np.ndarray] | None:
        """Depth maps of held-out rooms in metres, see ``Dataset.depths``."""
        return self._chunks.depths(scene, frames)


def _wanted(settings: FilmSettings) -> dict[str, Any]:
    return json.loads(json.dumps({"format_version": FORMAT_VERSION} | asdict(settings)))


def _is_ready(root: Path, settings: FilmSettings) -> bool:
    """Whether ``root`` holds these rooms.

    Raises:
        InputError: it holds other rooms or other files.
    """
    manifest = root / MANIFEST_NAME
    if not os.path.lexists(manifest):
        if root.is_file() or (root.is_dir() and any(root.iterdir())):
            raise InputError(
                f"{root} is not empty and holds no {MANIFEST_NAME}; give an empty folder for synthetic rooms"
            )
        return False
    try:
        found = read_json(manifest, root=None, limit=MAX_FILE_BYTES)
    except FileError as error:
        raise InputError(f"{manifest} cannot be read ({error}); delete the folder {root} to write it again") from error
    wanted = _wanted(settings)
    if found == wanted:
        return True
    found = found if isinstance(found, dict) else {}
    version = found.get("format_version")
    if version != FORMAT_VERSION:
        raise InputError(
            f"{root} holds synthetic rooms of version {version}, and this program makes version {FORMAT_VERSION}; "
            "delete this folder to render the rooms again, give another root, or read the old rooms with the dataset "
            "'chunks'"
        )
    keys = [key for key in wanted | found if wanted.get(key) != found.get(key)]
    differences = "; ".join(f"{key} is {found.get(key)} there and {wanted.get(key)} here" for key in keys)
    raise InputError(
        f"{root} holds synthetic rooms with other settings: {differences}; give another root or delete this folder"
    )


def _write_once(root: Path, settings: FilmSettings) -> None:
    """Write the rooms; one process writes, and others that want the same rooms wait."""
    target = root.absolute()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        lock = target.with_name(f".{target.name}.lock")
        while not _is_ready(root, settings):
            with _lock(lock) as mine:
                if mine:
                    _write(target, settings)
                else:
                    time.sleep(_POLL_SECONDS)
    except OSError as error:
        raise InputError(f"synthetic rooms cannot be written to {target}: {error}") from error


def _write(target: Path, settings: FilmSettings) -> None:
    """Write beside ``target`` and rename, so that an interruption leaves no incomplete folder."""
    temporary = target.with_name(f".{target.name}.{socket.gethostname()}.{os.getpid()}.tmp")
    cores, start = usable_cores(), time.monotonic()
    count = settings.num_train + settings.num_test
    logger.info("synthetic rooms: rendering %d rooms to %s with %d processes", count, target, cores)
    try:
        write_rooms(temporary, settings, processes=cores)
        manifest = json.dumps(_wanted(settings), indent=2)
        (temporary / MANIFEST_NAME).write_text(manifest + "\n", encoding="utf-8")
        try:
            temporary.rename(target)  # this replaces an empty folder and fails for any other
        except OSError:
            if not _is_ready(target, settings):  # otherwise another process was faster and wrote the same
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    logger.info("synthetic rooms: done in %.0f s", time.monotonic() - start)


@contextmanager
def _lock(path: Path) -> Iterator[bool]:
    """Yield whether this process holds the lock file; the lock of a dead process is removed for the next attempt."""
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    except FileExistsError:
        if _is_stale(path):
            logger.warning("synthetic rooms: removing %s of a process that no longer exists", path)
            path.unlink(missing_ok=True)
        yield False
        return
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump({"host": socket.gethostname(), "pid": os.getpid()}, file)
        yield True
    finally:
        path.unlink(missing_ok=True)


def _is_stale(path: Path) -> bool:
    try:
        age = time.time() - path.stat().st_mtime
        owner = json.loads(path.read_text(encoding="utf-8"))
        host, pid = str(owner["host"]), int(owner["pid"])
    except FileNotFoundError:
        return False  # just released
    except (ValueError, KeyError, TypeError):
        return age > 10  # not written yet, or its writer died
    if host != socket.gethostname():
        return age > _STALE_SECONDS
    try:
        os.kill(pid, 0)  # signal 0 only checks that the process exists
    except ProcessLookupError:
        return True
    except PermissionError:
        return False  # the process exists and belongs to another user
    return False
