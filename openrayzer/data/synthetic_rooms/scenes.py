"""Videos of synthetic rooms, rendered in parallel and stored as chunks."""

import logging
import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import get_args

import cv2
import numpy as np
from jaxtyping import Float

from openrayzer.data.chunk_files.depth_maps import depth_png
from openrayzer.data.chunk_files.format import ChunkScene, cameras_to_rows, write_chunk, write_index
from openrayzer.data.synthetic_rooms.camera_paths import NoPathError, camera_path
from openrayzer.data.synthetic_rooms.exposures import Exposure, exposures
from openrayzer.data.synthetic_rooms.motions import Motion
from openrayzer.data.synthetic_rooms.room import Room, make_room
from openrayzer.machine.progress import with_progress

SPLITS = ("train", "test")
SCENES_PER_CHUNK = 16
_ROOM_TRIES = 20
_FULL_SPEED_TRIES = 4  # rooms that are tried before the camera gets slower
_SLOWER = 0.7
_JPEG_QUALITY = 95
_MICROSECONDS = 100_000  # between frames: 10 frames per second

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class FilmSettings:
    """Settings that decide the contents of the chunks; equal settings give equal images.

    Attributes:
        num_train, num_test: number of rooms of each split.
        num_frames: number of frames per room.
        image_size: height and width in pixels.
        motion: speed of the camera; see ``camera_path``.
        seed: seed of rooms and camera paths.
        focal_range: smallest and largest focal length, relative to the longer side of the image.
        motions: kinds of motion, which follow each other from room to room; see ``camera_path``.
        exposure: share of the rooms whose exposure and white balance change from frame to frame.
    """

    num_train: int
    num_test: int
    num_frames: int
    image_size: tuple[int, int]
    motion: float
    seed: int
    focal_range: tuple[float, float] = (0.7, 2.2)
    motions: tuple[Motion, ...] = get_args(Motion)
    exposure: float = 0.35

    def rooms(self, split: str) -> range:
        """Numbers of the rooms of a split; the splits share no room."""
        return range(self.num_train) if split == "train" else range(self.num_train, self.num_train + self.num_test)


@dataclass(frozen=True)
class FilmPlan:
    """A room and the cameras of its frames.

    Attributes:
        room: the room.
        c2w: camera to world of each frame, OpenCV axes.
        intrinsics: fx, fy, cx, cy divided by width, height, width, height; the same for all frames.
        exposures: the exposure of each frame.
    """

    room: Room
    c2w: Float[np.ndarray, "f 4 4"]
    intrinsics: Float[np.ndarray, " 4"]
    exposures: list[Exposure]


def plan_film(settings: FilmSettings, number: int) -> FilmPlan:
    """Room ``number`` and its cameras; they depend only on the settings of the video, not on the number of rooms."""
    generator = np.random.default_rng((settings.seed, number))
    height, width = settings.image_size
    focal = max(height, width) * np.exp(generator.uniform(*np.log(settings.focal_range)))
    intrinsics = np.array([focal / width, focal / height, 0.5, 0.5])
    kind = settings.motions[number % len(settings.motions)]
    changing = bool(generator.uniform() < settings.exposure)
    frames = exposures(generator, num_frames=settings.num_frames, changing=changing)
    for attempt in range(_ROOM_TRIES):
        room = make_room(generator)
        try:
            c2w = camera_path(
                generator,
                room,
                intrinsics=intrinsics,
                num_frames=settings.num_frames,
                kind=kind,
                motion=settings.motion * _SLOWER ** max(0, attempt - _FULL_SPEED_TRIES),
            )
            return FilmPlan(room, c2w, intrinsics, frames)
        except NoPathError:
            logger.debug("synthetic rooms: room %d has no space for a camera path; making another room", number)
    raise NoPathError(f"no room with a free path of {settings.num_frames} frames at motion {settings.motion}")


def film(settings: FilmSettings, number: int) -> ChunkScene:
    """Room ``number``, rendered, as a scene of a chunk; held-out rooms have depth maps."""
    plan = plan_film(settings, number)
    images = [
        _jpeg(plan.room.view(pose, plan.intrinsics, size=settings.image_size, exposure=exposure))
        for pose, exposure in zip(plan.c2w, plan.exposures, strict=True)
    ]
    depths = None
    if number in settings.rooms("test"):
        maps = [plan.room.depth(pose, plan.intrinsics, size=settings.image_size) for pose in plan.c2w]
        depths = [depth_png(depth) for depth in maps]
    count = settings.num_frames
    return ChunkScene(
        key=f"room_{number:05d}",
        cameras=cameras_to_rows(plan.c2w, np.tile(plan.intrinsics, (count, 1))),
        images=images,
        timestamps=np.arange(count, dtype=np.int64) * _MICROSECONDS,
        depths=depths,
    )


def write_rooms(folder: Path, settings: FilmSettings, *, processes: int) -> None:
    """Write both splits to ``folder``; the files do not depend on ``processes``.

    Raises:
        OSError: the files cannot be written, e.g. because the disk is full.
    """
    numbers = [number for split in SPLITS for number in settings.rooms(split)]
    scenes = with_progress(_filmed(settings, numbers, processes), total=len(numbers), unit="rooms", title="film rooms")
    for split in SPLITS:
        index: dict[str, str] = {}
        count = len(settings.rooms(split))
        (folder / split).mkdir(parents=True, exist_ok=True)
        for chunk, first in enumerate(range(0, count, SCENES_PER_CHUNK)):
            content = list(islice(scenes, min(SCENES_PER_CHUNK, count - first)))
            name = f"{chunk:06d}.torch"
            write_chunk(folder / split / name, content)
            index |= {scene.key: name for scene in content}
        write_index(folder / split, index)
        logger.info("synthetic rooms: %s: %d rooms", split, count)
    next(scenes, None)  # counts the last room


def _filmed(settings: FilmSettings, numbers: list[int], processes: int) -> Iterator[ChunkScene]:
    """Yield the scenes in the order of ``numbers``."""
    left = list(numbers)
    processes = min(processes, len(numbers))
    if processes > 1 and not multiprocessing.current_process().daemon:  # daemons cannot have child processes
        try:
            for scene in _filmed_by_pool(settings, numbers, processes):
                left.pop(0)
                yield scene
        except BrokenProcessPool as error:  # e.g. a script without a __main__ guard, or not enough memory
            logger.warning("synthetic rooms: worker processes failed (%s); continuing in one process", error)
    yield from (film(settings, number) for number in left)


def _filmed_by_pool(settings: FilmSettings, numbers: list[int], processes: int) -> Iterator[ChunkScene]:
    # Spawn fresh interpreters: forking a process with threads or a GPU can hang.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context, initializer=_one_thread) as pool:
        try:
            yield from pool.map(film, [settings] * len(numbers), numbers)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _one_thread() -> None:
    cv2.setNumThreads(1)


def usable_cores() -> int:
    """Number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _jpeg(image: np.ndarray) -> bytes:
    _, encoded = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    return encoded.tobytes()
