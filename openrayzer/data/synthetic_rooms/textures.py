"""Materials of synthetic rooms that repeat without a seam: paint, wallpaper, bricks, wood, fabric."""

from collections.abc import Callable

import cv2
import numpy as np

from openrayzer.data.synthetic_rooms.painting import (
    COLUMN,
    ROW,
    SIZE,
    Colour,
    Texture,
    grid,
    hsv,
    mix,
    noise,
    paint,
    pebbles,
)


def plaster(generator: np.random.Generator, colour: Colour) -> Texture:
    """A painted wall with faint spots and grain."""
    grain = generator.normal(0, 0.025, (SIZE, SIZE)).astype(np.float32)
    return paint(colour, 0.09 * noise(generator) + grain)


def stripes(generator: np.random.Generator, colour: Colour) -> Texture:
    """Wallpaper with upright stripes of three widths."""
    count = int(generator.integers(4, 10))
    phase = (COLUMN * count / SIZE) % 1
    other = np.clip(colour * generator.uniform(0.55, 0.85), 0, 1)
    share = np.where(phase < 0.45, 1.0, np.where((phase > 0.6) & (phase < 0.68), 0.7, 0.0)).astype(np.float32)
    return mix(plaster(generator, colour), other, share)


def motifs(generator: np.random.Generator, colour: Colour) -> Texture:
    """Wallpaper or cloth with a staggered pattern of flowers."""
    count = 2 * int(generator.integers(2, 5))
    row = (ROW * count // SIZE).astype(int)
    x = ((COLUMN * count / SIZE + 0.5 * (row % 2)) % 1) * 2 - 1
    y = ((ROW * count / SIZE) % 1) * 2 - 1
    radius, angle = np.hypot(x, y), np.arctan2(y, x)
    petals = 0.55 + 0.2 * np.cos(angle * int(generator.integers(3, 8)))
    accent = hsv(generator.uniform(), 0.6, generator.uniform(0.3, 0.9))
    texture = mix(plaster(generator, colour), accent, (radius < petals).astype(np.float32) * 0.8)
    return mix(texture, colour * 0.5, (radius < 0.2).astype(np.float32))


def bricks(generator: np.random.Generator, colour: Colour) -> Texture:
    """Staggered bricks of varied shade with pale mortar."""
    rows = 2 * int(generator.integers(6, 11))
    row, column, edge = grid(rows, rows // 3, stagger=0.5)
    shades = generator.normal(0, 0.16, (rows, rows)).astype(np.float32)
    face = paint(colour, shades[row, column] + 0.18 * noise(generator, (8, 8), 5))
    mortar = plaster(generator, np.float32(generator.uniform(0.55, 0.8)) * np.ones(3, np.float32))
    return mix(mortar, face, np.clip(edge - 0.8, 0, 1))


def tiles(generator: np.random.Generator, colour: Colour) -> Texture:
    """Square tiles in two shades with dark grout."""
    count = 2 * int(generator.integers(2, 5))
    row, column, edge = grid(count, count)
    shades = generator.normal(0, 0.05, (count, count)) - generator.choice([0.0, 0.3, 0.6]) * (
        np.indices((count, count)).sum(0) % 2
    )
    face = paint(colour, shades.astype(np.float32)[row, column] + 0.12 * noise(generator, (4, 4), 5))
    return mix(colour * 0.35, face, np.clip(edge - 0.5, 0, 1))


def wood(generator: np.random.Generator, colour: Colour) -> Texture:
    """Grain that runs across the texture, with darker rings."""
    warp = noise(generator, (3, 1), 3)
    rings = np.sin((ROW / SIZE * int(generator.integers(5, 12)) + 0.8 * warp) * 2 * np.pi)
    fibres = noise(generator, (32, 2), 3)
    return paint(colour, (0.13 * rings + 0.22 * fibres).astype(np.float32))


def planks(generator: np.random.Generator, colour: Colour) -> Texture:
    """Staggered floor boards of different shades, with dark seams."""
    rows = 2 * int(generator.integers(4, 9))
    row, column, edge = grid(rows, 2, stagger=0.5)
    shades = generator.normal(0, 0.17, (rows, 2)).astype(np.float32)
    grain = np.take(
        noise(generator, (32, 2), 3).ravel(), (ROW.astype(int) * SIZE + COLUMN.astype(int) + row * 37 * SIZE) % SIZE**2
    )
    return paint(colour, shades[row, column] + 0.2 * grain) * np.clip(0.35 + 0.5 * edge, 0, 1)[..., None]


def fabric(generator: np.random.Generator, colour: Colour) -> Texture:
    """Checked cloth with a visible weave."""
    down, across = (int(count) for count in generator.integers(3, 9, 2))
    check = ((COLUMN * across / SIZE) % 1 < 0.35).astype(np.float32) + ((ROW * down / SIZE) % 1 < 0.35)
    weave = ((COLUMN.astype(int) // 2 + ROW.astype(int) // 2) % 2).astype(np.float32) - 0.5
    return paint(colour, -generator.uniform(0.0, 0.28) * check + 0.1 * weave + 0.1 * noise(generator))


def carpet(generator: np.random.Generator, colour: Colour) -> Texture:
    """A speckled carpet."""
    return paint(colour, 0.28 * noise(generator, (16, 16), 5) + 0.1 * noise(generator, (3, 3), 2))


def marble(generator: np.random.Generator, colour: Colour) -> Texture:
    """Stone with veins."""
    veins = np.abs(np.sin((noise(generator, (2, 2), 6) * 2 + COLUMN / SIZE) * 2 * np.pi)) ** 0.35
    return paint(colour, (0.5 * veins - 0.4).astype(np.float32))


def plain(generator: np.random.Generator, colour: Colour) -> Texture:
    """One colour, barely mottled."""
    return paint(colour, 0.05 * noise(generator))


def stones(generator: np.random.Generator, colour: Colour) -> Texture:
    """A wall or floor of irregular stones with mortar."""
    count = int(generator.integers(12, 80))
    number, _ = pebbles(generator, count)
    edges = cv2.morphologyEx(_wrapped(number.astype(np.float32)), cv2.MORPH_GRADIENT, np.ones((3, 3)))
    edge = cv2.dilate((edges > 0).astype(np.float32), np.ones((3, 3)))[2:-2, 2:-2]
    face = paint(colour, generator.normal(0, 0.2, count).astype(np.float32)[number] + 0.2 * noise(generator, (8, 8), 5))
    return mix(face, plaster(generator, colour * generator.uniform(0.3, 0.7)), edge)


def terrazzo(generator: np.random.Generator, colour: Colour) -> Texture:
    """Small chips of four colours in a plain ground."""
    count = int(generator.integers(60, 400))
    number, distance = pebbles(generator, count)
    chips = _palette(generator, 4)[generator.integers(0, 4, count)][number]
    reach = 0.3 * SIZE / np.sqrt(count) * generator.uniform(0.5, 1.3, count).astype(np.float32)[number]
    return mix(plaster(generator, colour), chips, np.clip(reach - distance, 0, 1))


def facets(generator: np.random.Generator, colour: Colour) -> Texture:
    """Triangles of several colours."""
    count = int(generator.integers(3, 12))
    row, column, _ = grid(count, count)
    step = SIZE / count
    half = (ROW % step > COLUMN % step).astype(int)
    shades = np.concatenate([_palette(generator, 3), colour[None]])
    return shades[generator.integers(0, 4, (count, count, 2))][row, column, half] * (
        1 + 0.1 * noise(generator)[..., None]
    )


def blobs(generator: np.random.Generator, colour: Colour) -> Texture:
    """Patches of several colours with winding borders."""
    cells = int(generator.choice([2, 4, 8]))
    height = noise(generator, (cells, cells), 5)
    levels = np.digitize(height, np.quantile(height, [0.25, 0.5, 0.75]))
    shades = np.concatenate([_palette(generator, 3), colour[None]])
    return shades[levels] * (1 + 0.08 * noise(generator)[..., None])


def _palette(generator: np.random.Generator, count: int) -> np.ndarray:
    """Random colours, (count, 3)."""
    return np.stack([hsv(*generator.uniform((0, 0.05, 0.2), (1, 0.7, 0.95))) for _ in range(count)])


def _wrapped(field: np.ndarray) -> np.ndarray:
    return cv2.copyMakeBorder(field, 2, 2, 2, 2, cv2.BORDER_WRAP)


TILED: dict[str, Callable[[np.random.Generator, Colour], Texture]] = {
    recipe.__name__: recipe
    for recipe in (
        plaster, stripes, motifs, bricks, tiles, wood, planks, fabric, carpet, marble, plain, stones, terrazzo, facets,
        blobs,
    )
}  # fmt: skip
"""Recipes by name."""
