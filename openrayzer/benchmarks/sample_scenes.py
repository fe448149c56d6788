"""Synthetic chunks for benchmarks: JPEG files of the size of real frames, or many scenes of tiny images."""

from pathlib import Path

import cv2
import numpy as np

from openrayzer.data.chunk_files.format import ChunkScene, cameras_to_rows, write_chunk, write_index

_QUALITY = 90
_OCTAVES = 7
_STEP = 3  # pixels by which the picture moves from one frame to the next


def write_scenes(root: Path, *, scenes: int, frames: int, chunks: int, size: tuple[int, int] = (360, 640)) -> None:
    """Write ``root/train``: scenes of a picture that moves, with the size and detail of RealEstate10K's frames."""
    index: dict[str, str] = {}
    for chunk in range(chunks):
        numbers = range(chunk, scenes, chunks)
        _write(root / "train", chunk, [_scene(number, frames, size) for number in numbers], index)
    write_index(root / "train", index)


def write_tiny_scenes(root: Path, *, scenes: int, frames: int, chunks: int) -> None:
    """Write ``root/train``: many scenes of 16 x 16 pixels."""
    index: dict[str, str] = {}
    picture = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    image = cv2.imencode(".jpg", picture)[1].tobytes()
    rows = _cameras(frames)
    for chunk in range(chunks):
        numbers = range(chunk, scenes, chunks)
        tiny = [ChunkScene(f"{number:016x}", rows, [image] * frames, np.arange(frames)) for number in numbers]
        _write(root / "train", chunk, tiny, index)
    write_index(root / "train", index)


def sample_images(count: int, *, size: tuple[int, int]) -> list[bytes]:
    """Different JPEG files with the detail of the frames of ``write_scenes``."""
    return [_encoded(_picture(np.random.default_rng(number), size)) for number in range(count)]


def _write(folder: Path, number: int, scenes: list[ChunkScene], index: dict[str, str]) -> None:
    name = f"{number:06}.torch"
    write_chunk(folder / name, scenes)
    index.update({scene.key: name for scene in scenes})


def _scene(number: int, frames: int, size: tuple[int, int]) -> ChunkScene:
    height, width = size
    picture = _picture(np.random.default_rng(number), (height, width + _STEP * frames))
    views = [picture[:, first : first + width] for first in range(0, _STEP * frames, _STEP)]
    return ChunkScene(f"{number:016x}", _cameras(frames), [*map(_encoded, views)], np.arange(frames) * 33_333)


def _encoded(picture: np.ndarray) -> bytes:
    return cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1].tobytes()


def _picture(generator: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """Noise with an amplitude that falls with its frequency, as in photographs."""
    height, width = size
    picture = np.zeros((height, width, 3), np.float32)
    for octave in range(_OCTAVES):
        sides = [max(2, side >> (_OCTAVES - 1 - octave)) for side in size]
        noise = generator.normal(0, 1, (*sides, 3)).astype(np.float32)
        noise = 0.7 * noise.mean(axis=2, keepdims=True) + 0.3 * noise  # colours vary less than brightness
        picture += cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC) / 1.9**octave
    return np.clip(127 + 45 * picture, 0, 255).astype(np.uint8)


def _cameras(frames: int) -> np.ndarray:
    c2w = np.tile(np.eye(4), (frames, 1, 1))
    c2w[:, 0, 3] = np.arange(frames) * 0.01
    return cameras_to_rows(c2w, np.tile([0.5, 0.89, 0.5, 0.5], (frames, 1)))
