"""Textures of synthetic rooms that are stretched over one face: doors, books, rugs, pictures and windows."""

from collections.abc import Callable

import cv2
import numpy as np

from openrayzer.data.synthetic_rooms.painting import COLUMN, ROW, SIZE, Colour, Texture, grid, hsv, mix, noise, paint
from openrayzer.data.synthetic_rooms.textures import TILED, wood


def leaf(generator: np.random.Generator, colour: Colour) -> Texture:
    """A leaf with a pale midrib and slanted side veins."""
    side = np.abs(COLUMN - SIZE / 2)
    veins = ((ROW + side) % 40 < 5).astype(np.float32)
    rib = (side < 6).astype(np.float32)
    return mix(paint(colour, 0.25 * noise(generator)), np.clip(colour * 1.7, 0, 1), np.maximum(rib, 0.5 * veins))


def spines(generator: np.random.Generator, colour: Colour) -> Texture:
    """A row of books seen from the front."""
    texture = np.empty((SIZE, SIZE, 3), np.float32)
    left = 0
    while left < SIZE:
        right = min(SIZE, left + int(generator.integers(8, 30)))
        spine = hsv(generator.uniform(), generator.uniform(0.1, 0.8), generator.uniform(0.2, 0.95))
        top = int(generator.integers(0, 60))
        texture[:, left:right] = spine * 0.95
        texture[:top, left:right] = 0.05
        band = top + int(generator.integers(10, 120))
        texture[band : band + int(generator.integers(4, 40)), left:right] = hsv(generator.uniform(), 0.4, 0.9)
        texture[:, left : left + 2] *= 0.4
        left = right
    return texture


def rug(generator: np.random.Generator, colour: Colour) -> Texture:
    """A rug with borders and a medallion."""
    border = np.minimum.reduce([COLUMN, ROW, SIZE - 1 - COLUMN, SIZE - 1 - ROW])
    accents = [hsv(generator.uniform(), generator.uniform(0.3, 0.8), generator.uniform(0.25, 0.9)) for _ in range(3)]
    texture = paint(colour, np.zeros_like(COLUMN))
    period = int(generator.integers(12, 28))
    texture[(np.floor(COLUMN / period) + np.floor(ROW / period)) % 2 == 0] = accents[2]
    texture[border < 44] = accents[0]
    texture[(border > 12) & (border < 20)] = colour
    x, y = COLUMN / SIZE * 2 - 1, ROW / SIZE * 2 - 1
    ring = np.abs(x) + np.abs(y) if generator.uniform() < 0.5 else np.hypot(x, y)
    texture[ring < 0.5] = accents[1]
    texture[ring < 0.3] = colour
    return texture * (1 + 0.2 * noise(generator, (32, 32), 3))[..., None]


def poster(generator: np.random.Generator, colour: Colour) -> Texture:
    """A framed picture: a landscape, coloured shapes or a printed page."""
    kind = int(generator.integers(3))
    picture = (_landscape, _shapes, _page)[kind](generator)
    border = np.minimum.reduce([COLUMN, ROW, SIZE - 1 - COLUMN, SIZE - 1 - ROW])
    picture[border < 26] = 0.93
    picture[border < 12] = colour * 0.4
    return picture


def window(generator: np.random.Generator, colour: Colour) -> Texture:
    """Sky, hills and trees behind glazing bars."""
    texture = _landscape(generator)
    bars, width = int(generator.integers(1, 4)), 6
    for bar in range(bars + 1):
        at = round(bar * SIZE / bars)
        texture[:, max(0, at - width) : at + width] = 0.85
    texture[SIZE // 2 - width : SIZE // 2 + width] = 0.85
    texture[[*range(8), *range(SIZE - 8, SIZE)]] = 0.85
    return texture


def door(generator: np.random.Generator, colour: Colour) -> Texture:
    """A door with sunk panels and a handle."""
    texture = wood(generator, colour)
    for top, bottom in ((20, 110), (130, 240)):
        for left, right in ((24, 118), (138, 232)):
            cv2.rectangle(texture, (left, top), (right, bottom), (colour * 0.5).tolist(), 4)
            texture[top + 10 : bottom - 10, left + 10 : right - 10] *= 0.85
    cv2.circle(texture, (240, 128), 8, (0.8, 0.75, 0.5), -1)
    return texture


def drawers(generator: np.random.Generator, colour: Colour) -> Texture:
    """A cabinet front: drawers or doors with knobs."""
    rows, columns = int(generator.integers(1, 5)), int(generator.integers(1, 4))
    texture = wood(generator, colour)
    _, _, edge = grid(rows, columns)
    texture *= np.where(edge < 4, 0.4, np.where(edge < 12, 1.15, 1.0))[..., None].astype(np.float32)
    for row in range(rows):
        for column in range(columns):
            centre = (int((column + 0.5) * SIZE / columns), int((row + 0.3) * SIZE / rows))
            cv2.circle(texture, centre, 9, (colour * 0.25).tolist(), -1)
            cv2.circle(texture, centre, 6, (0.85, 0.8, 0.65), -1)
    return texture


def ball(generator: np.random.Generator, colour: Colour) -> Texture:
    """Bands and panels in two colours."""
    other = hsv(generator.uniform(), 0.7, 0.9)
    panels = (np.floor(COLUMN / SIZE * 6) + np.floor(ROW / SIZE * int(generator.integers(1, 5)))) % 2
    return mix(paint(colour, 0.08 * noise(generator)), other, panels.astype(np.float32))


def _landscape(generator: np.random.Generator) -> Texture:
    sky, ground = hsv(generator.uniform(0.5, 0.68), 0.5, 0.95), hsv(generator.uniform(0.15, 0.4), 0.6, 0.55)
    texture = mix(sky, np.ones(3, np.float32), np.clip(0.7 * noise(generator, (4, 2), 5) + ROW / SIZE * 0.6, 0, 1))
    for layer in range(3):
        ridge = SIZE * (0.45 + 0.15 * layer) + 40 * noise(generator, (1, 2 + layer), 4)[:1]
        shade = paint(ground * (1.1 - 0.28 * layer), 0.25 * noise(generator, (8, 8), 4))
        texture = np.where((ridge < ROW)[..., None], shade, texture).astype(np.float32)
    return texture


def _shapes(generator: np.random.Generator) -> Texture:
    paper = hsv(generator.uniform(), generator.uniform(0.05, 0.6), generator.uniform(0.5, 1.0))
    texture = np.ascontiguousarray(np.broadcast_to(paper, (SIZE, SIZE, 3)))
    for _ in range(int(generator.integers(5, 14))):
        colour = hsv(generator.uniform(), generator.uniform(0.3, 0.95), generator.uniform(0.2, 1.0)).tolist()
        x, y, size, extent = (int(number) for number in generator.integers((0, 0, 12, 12), (SIZE, SIZE, 90, 90)))
        if generator.uniform() < 0.5:
            cv2.circle(texture, (x, y), size, colour, -1 if generator.uniform() < 0.7 else 8)
        else:
            cv2.rectangle(texture, (x - size, y - extent), (x + size, y + extent), colour, -1)
    return texture


def _page(generator: np.random.Generator) -> Texture:
    texture = np.full((SIZE, SIZE, 3), 0.92, np.float32)
    texture[36:70, 40 : int(generator.integers(120, 220))] = hsv(generator.uniform(), 0.8, 0.6)
    for line in range(90, 220, 14):
        texture[line : line + 6, 40 : int(generator.integers(100, 216))] = 0.25
    top, left = (int(number) for number in generator.integers(90, 150, 2))
    texture[top : top + 70, left : left + 70] = hsv(generator.uniform(), 0.6, 0.8)
    return texture


TEXTURES: dict[str, Callable[[np.random.Generator, Colour], Texture]] = TILED | {
    recipe.__name__: recipe for recipe in (leaf, spines, rug, poster, window, door, drawers, ball)
}
"""All recipes by name."""
