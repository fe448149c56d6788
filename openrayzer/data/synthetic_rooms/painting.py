"""Tools for painting textures: colours, noise, mixtures and grids.

A texture is a square float32 RGB array in [0, 1] (display values, not linear light).
"""

import cv2
import numpy as np
from jaxtyping import Float

SIZE = 256

Colour = Float[np.ndarray, " 3"]
Field = Float[np.ndarray, "size size"]
Texture = Float[np.ndarray, "size size 3"]

ROW, COLUMN = (places.astype(np.float32) for places in np.mgrid[0:SIZE, 0:SIZE])
"""Row and column of each texel."""


def hsv(hue: float, saturation: float, value: float) -> Colour:
    """RGB in [0, 1] of a hue (1 is a full circle; any real number), a saturation and a value in [0, 1]."""
    shades = np.abs((hue * 6 + np.array([0.0, 4.0, 2.0])) % 6 - 3) - 1
    return (value * (1 - saturation * (1 - np.clip(shades, 0, 1)))).astype(np.float32)


def noise(generator: np.random.Generator, cells: tuple[int, int] = (4, 4), octaves: int = 5) -> Field:
    """Tileable value noise with mean about 0 and range about [-1, 1].

    Args:
        generator: source of all randomness.
        cells: lattice cells of the coarsest octave along rows and columns; every octave doubles them.
        octaves: number of octaves.
    """
    total = np.zeros(cells, np.float32)
    for octave in range(octaves):
        if octave:
            total = _enlarge(total, (min(SIZE, cells[0] << octave), min(SIZE, cells[1] << octave)))
        total += generator.uniform(-(0.6**octave), 0.6**octave, total.shape).astype(np.float32)
    return _enlarge(total, (SIZE, SIZE)) / 1.6


def _enlarge(field: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A tileable field resized smoothly to a multiple of its size; it stays tileable."""
    rows, columns = size[0] // field.shape[0], size[1] // field.shape[1]
    padded = cv2.copyMakeBorder(field, 2, 2, 2, 2, cv2.BORDER_WRAP)
    large = cv2.resize(padded, (padded.shape[1] * columns, padded.shape[0] * rows), interpolation=cv2.INTER_CUBIC)
    return large[2 * rows : 2 * rows + size[0], 2 * columns : 2 * columns + size[1]]


def paint(colour: Colour, shade: Field) -> Texture:
    """One colour, brighter by the factor 1 + ``shade``."""
    return np.ascontiguousarray(np.moveaxis(colour[:, None, None] * (1 + shade), 0, -1))


def mix(first: Texture | Colour, second: Texture | Colour, share: Field) -> Texture:
    """Where ``share`` is 0 the first texture, where it is 1 the second."""
    share = share[..., None]
    return (first * (1 - share) + second * share).astype(np.float32)


def grid(rows: int, columns: int, *, stagger: float = 0.0) -> tuple[np.ndarray, np.ndarray, Field]:
    """Row and column of the grid cell at each texel, and the distance to the nearest cell edge in texels."""
    height, width = SIZE / rows, SIZE / columns
    y = np.arange(SIZE, dtype=np.float32)
    row = (y / height).astype(int)
    down, shifts = y % height, np.stack([y, (y + stagger * width) % SIZE])
    column, across = (shifts / width).astype(int)[row % 2], (shifts % width)[row % 2]
    edge = np.minimum(np.minimum(down, height - down)[:, None], np.minimum(across, width - across))
    return np.repeat(row[:, None], SIZE, axis=1), column, edge.astype(np.float32)


def pebbles(generator: np.random.Generator, count: int) -> tuple[np.ndarray, Field]:
    """At each texel, the number of the nearest of ``count`` random points and its distance in texels; both tileable."""
    points = generator.integers(0, SIZE, (count, 2))
    around = np.ones((3 * SIZE, 3 * SIZE), np.uint8)  # the texture with a copy on each side
    copies = (points + SIZE * np.indices((3, 3)).reshape(2, 9, 1).transpose(1, 2, 0)).reshape(-1, 2)
    around[copies[:, 0], copies[:, 1]] = 0
    distance, label = cv2.distanceTransformWithLabels(around, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    number = np.zeros(label.max() + 1, int)
    number[label[copies[:, 0], copies[:, 1]]] = np.tile(np.arange(count), 9)
    middle = (slice(SIZE, 2 * SIZE),) * 2
    return number[label[middle]], distance[middle]
