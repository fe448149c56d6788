"""Cut-outs: objects to paste into images, RGB and opacity, (4, s, s) float32 in [0, 1]."""

from pathlib import Path

import cv2
import numpy as np

from openrayzer.data.pixels.decoding import ImageError, decode_image
from openrayzer.interfaces import InputError
from openrayzer.machine.plain_files import FileError, read_plain_file

SIDE = 96
"""Side of a cut-out in pixels before it is scaled."""

_SUFFIXES = (".png", ".jpg", ".jpeg")
_HARMONICS = 5  # number of harmonics of a random outline


class CutOuts:
    """A source of random cut-outs.

    Args:
        folder: folder of image files; None draws coloured shapes.

    Raises:
        InputError: the folder has no image files.
    """

    def __init__(self, folder: Path | str | None) -> None:
        self.files: tuple[Path, ...] = ()
        if folder is not None:
            self.files = tuple(sorted(file for file in Path(folder).glob("*") if file.suffix.lower() in _SUFFIXES))
            if not self.files:
                raise InputError(f"folder {folder} has no files {', '.join(_SUFFIXES)}")

    def draw(self, generator: np.random.Generator) -> np.ndarray:
        """A random cut-out of side ``SIDE``.

        Raises:
            InputError: the file of the cut-out cannot be read.
        """
        if not self.files:
            return np.concatenate([texture(generator), blob(generator)])
        file = self.files[int(generator.integers(len(self.files)))]
        try:
            data = read_plain_file(file, root=None)
            image = decode_image(data)  # refuses damaged files and very large images
        except (FileError, ImageError) as error:
            raise InputError(f"{file} cannot be pasted: {error}") from error
        stored = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        if stored is not None and stored.ndim == 3 and stored.shape[2] == 4:
            deepest = 65535 if stored.dtype == np.uint16 else 255
            return _square(np.dstack([image / np.float32(255), stored[..., 3:] / np.float32(deepest)]))
        return np.concatenate([_square(_random_part(image, generator) / np.float32(255)), blob(generator)])


def scaled(cut_out: np.ndarray, side: int) -> np.ndarray:
    """A cut-out (c, s, s) resized to ``side``."""
    method = cv2.INTER_AREA if side < cut_out.shape[1] else cv2.INTER_LINEAR
    pixels = cv2.resize(np.ascontiguousarray(cut_out.transpose(1, 2, 0)), (side, side), interpolation=method)
    return pixels.transpose(2, 0, 1)


def blob(generator: np.random.Generator) -> np.ndarray:
    """Opacity (1, SIDE, SIDE) of a random round shape with a smooth edge, at the centre."""
    numbers = np.arange(1, _HARMONICS + 1)
    weights, phases = generator.normal(0, 0.25, _HARMONICS) / numbers, generator.uniform(0, 2 * np.pi, _HARMONICS)
    y, x = (np.mgrid[:SIDE, :SIDE] + 0.5) / SIDE * 2 - 1
    waves = weights[:, None, None] * np.cos(numbers[:, None, None] * np.arctan2(y, x) + phases[:, None, None])
    edge = np.clip(0.75 * (1 + waves.sum(axis=0)), 0.2, 0.93)
    return np.clip((edge - np.hypot(x, y)) * SIDE / 4 + 0.5, 0, 1)[None].astype(np.float32)


def texture(generator: np.random.Generator) -> np.ndarray:
    """Colours (3, SIDE, SIDE): one main colour with patches of other colours."""
    coarse = 0.5 * generator.random(3) + 0.5 * generator.random((6, 6, 3))
    fine = cv2.resize(coarse.astype(np.float32), (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
    return np.clip(fine, 0, 1).transpose(2, 0, 1)


def _random_part(image: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    height, width = image.shape[:2]
    side = max(1, round(min(height, width) * float(generator.uniform(0.3, 1))))
    top, left = int(generator.integers(height - side + 1)), int(generator.integers(width - side + 1))
    return image[top : top + side, left : left + side]


def _square(pixels: np.ndarray) -> np.ndarray:
    """An image (h, w, c) scaled into (c, SIDE, SIDE) with its proportions; the margins are 0, so transparent."""
    height, width = pixels.shape[:2]
    scale = SIDE / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    pixels = cv2.resize(
        np.ascontiguousarray(pixels), size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    )
    square = np.zeros((SIDE, SIDE, pixels.shape[2]), np.float32)
    top, left = (SIDE - size[1]) // 2, (SIDE - size[0]) // 2
    square[top : top + size[1], left : left + size[0]] = pixels
    return square.transpose(2, 0, 1)
