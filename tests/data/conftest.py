"""Tiny chunks, written by the tests, so that no download is needed."""

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from threading import Timer

import cv2
import numpy as np
import pytest

from openrayzer.data.chunk_files.format import ChunkScene, cameras_to_rows, write_chunk, write_index


def picture(value: int, *, size: tuple[int, int] = (24, 32), form: str = ".png") -> bytes:
    """An encoded image of one colour (value, 255 - value, 7), RGB."""
    image = np.empty((*size, 3), np.uint8)
    image[:] = (7, 255 - value, value)  # OpenCV's order is blue, green, red
    return cv2.imencode(form, image)[1].tobytes()


def camera_rows(count: int) -> np.ndarray:
    """Cameras along x, one unit apart, each rotated a little further about y."""
    c2w = np.tile(np.eye(4), (count, 1, 1))
    angle = np.arange(count) * 0.05
    c2w[:, 0, 0] = c2w[:, 2, 2] = np.cos(angle)
    c2w[:, 0, 2] = np.sin(angle)
    c2w[:, 2, 0] = -np.sin(angle)
    c2w[:, 0, 3] = np.arange(count)
    return cameras_to_rows(c2w, np.tile([0.8, 1.1, 0.5, 0.5], (count, 1)))


def chunk_scene(key: str, *, frames: int = 8) -> ChunkScene:
    """A scene whose frame i has red i and green 255 - i."""
    return ChunkScene(key, camera_rows(frames), [picture(i) for i in range(frames)], np.arange(frames) * 1000)


@pytest.fixture
def write_root(tmp_path: Path) -> Callable[..., Path]:
    """Writes a root with one chunk per list of scenes and, by default, an index."""

    def write(*chunks: Sequence[ChunkScene], split: str = "train", name: str = "root", index: bool = True) -> Path:
        folder = tmp_path / name / split
        names = {}
        for number, scenes in enumerate(chunks):
            write_chunk(folder / f"{number:06}.torch", scenes)
            names.update({scene.key: f"{number:06}.torch" for scene in scenes})
        if index:
            write_index(folder, names)
        return tmp_path / name

    return write


@pytest.fixture
def make_scene() -> Callable[..., ChunkScene]:
    """Makes a scene whose frame i has red i and green 255 - i."""
    return chunk_scene


@pytest.fixture
def make_picture() -> Callable[..., bytes]:
    """Makes an encoded image of one colour."""
    return picture


@pytest.fixture
def make_cameras() -> Callable[[int], np.ndarray]:
    """Makes camera rows."""
    return camera_rows


@pytest.fixture
def waiting_pipe() -> Iterator[Callable[[Path], Path]]:
    """Makes a pipe that blocks its reader, for a few seconds at most, so that no test can hang."""
    ends = []

    def let_go() -> None:
        while ends:
            os.close(ends.pop())

    timer = Timer(5, let_go)
    timer.start()

    def make(path: Path) -> Path:
        os.mkfifo(path)
        ends.append(os.open(path, os.O_RDWR | os.O_NONBLOCK))
        return path

    yield make
    timer.cancel()
    timer.join()
    let_go()
