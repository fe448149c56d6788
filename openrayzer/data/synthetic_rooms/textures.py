"""Materials of synthetic rooms: wood, bricks, fabric, posters.

A texture is a square float32 RGB array in [0, 1] (display values, not linear light). Textures named in ``TILED``
repeat without a seam; the others are stretched over one face.
"""

from collections.abc import Callable

import cv2
import numpy as np
from jaxtyping import Float

SIZE = 256

Colour = Float[np.ndarray, " 3"]
Field = Float[np.ndarray, "size size"]
Texture = Float[np.ndarray, "size size 3"]

_Y, _X = (grid.astype(np.float32) for grid in np.mgrid[0:SIZE, 0:SIZE])


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


def _paint(colour: Colour, shade: Field) -> Texture:
    return np.ascontiguousarray(np.moveaxis(colour[:, None, None] * (1 + shade), 0, -1))


def _mix(first: Texture | Colour, second: Texture | Colour, share: Field) -> Texture:
    share = share[..., None]
    return (first * (1 - share) + second * share).astype(np.float32)


def _cells(rows: int, columns: int, *, stagger: float = 0.0) -> tuple[np.ndarray, np.ndarray, Field]:
    """Row and column of the grid cell at each texel, and the distance to the nearest cell edge in texels."""
    height, width = SIZE / rows, SIZE / columns
    y = np.arange(SIZE, dtype=np.float32)
    row = (y / height).astype(int)
    down, shifts = y % height, np.stack([y, (y + stagger * width) % SIZE])
    column, across = (shifts / width).astype(int)[row % 2], (shifts % width)[row % 2]
    edge = np.minimum(np.minimum(down, height - down)[:, None], np.minimum(across, width - across))
    return np.repeat(row[:, None], SIZE, axis=1), column, edge.astype(np.float32)


def plaster(generator: np.random.Generator, colour: Colour) -> Texture:
    """A painted wall with faint spots and grain."""
    grain = generator.normal(0, 0.025, (SIZE, SIZE)).astype(np.float32)
    return _paint(colour, 0.09 * noise(generator) + grain)


def stripes(generator: np.random.Generator, colour: Colour) -> Texture:
    """Wallpaper with upright stripes of three widths."""
    count = int(generator.integers(4, 10))
    phase = (_X * count / SIZE) % 1
    other = np.clip(colour * generator.uniform(0.55, 0.85), 0, 1)
    share = np.where(phase < 0.45, 1.0, np.where((phase > 0.6) & (phase < 0.68), 0.7, 0.0)).astype(np.float32)
    return _mix(plaster(generator, colour), other, share)


def motifs(generator: np.random.Generator, colour: Colour) -> Texture:
    """Wallpaper or cloth with a staggered pattern of flowers."""
    count = 2 * int(generator.integers(2, 5))
    row = (_Y * count // SIZE).astype(int)
    x = ((_X * count / SIZE + 0.5 * (row % 2)) % 1) * 2 - 1
    y = ((_Y * count / SIZE) % 1) * 2 - 1
    radius, angle = np.hypot(x, y), np.arctan2(y, x)
    petals = 0.55 + 0.2 * np.cos(angle * int(generator.integers(3, 8)))
    accent = hsv(generator.uniform(), 0.6, generator.uniform(0.3, 0.9))
    texture = _mix(plaster(generator, colour), accent, (radius < petals).astype(np.float32) * 0.8)
    return _mix(texture, colour * 0.5, (radius < 0.2).astype(np.float32))


def bricks(generator: np.random.Generator, colour: Colour) -> Texture:
    """Staggered bricks of varied shade with pale mortar."""
    rows = 2 * int(generator.integers(6, 11))
    row, column, edge = _cells(rows, rows // 3, stagger=0.5)
    shades = generator.normal(0, 0.16, (rows, rows)).astype(np.float32)
    face = _paint(colour, shades[row, column] + 0.18 * noise(generator, (8, 8), 5))
    mortar = plaster(generator, np.float32(generator.uniform(0.55, 0.8)) * np.ones(3, np.float32))
    return _mix(mortar, face, np.clip(edge - 0.8, 0, 1))


def tiles(generator: np.random.Generator, colour: Colour) -> Texture:
    """Square tiles in two shades with dark grout."""
    count = 2 * int(generator.integers(2, 5))
    row, column, edge = _cells(count, count)
    shades = generator.normal(0, 0.05, (count, count)) - generator.choice([0.0, 0.3, 0.6]) * (
        np.indices((count, count)).sum(0) % 2
    )
    face = _paint(colour, shades.astype(np.float32)[row, column] + 0.12 * noise(generator, (4, 4), 5))
    return _mix(colour * 0.35, face, np.clip(edge - 0.5, 0, 1))


def wood(generator: np.random.Generator, colour: Colour) -> Texture:
    """Grain that runs across the texture, with darker rings."""
    warp = noise(generator, (3, 1), 3)
    rings = np.sin((_Y / SIZE * int(generator.integers(5, 12)) + 0.8 * warp) * 2 * np.pi)
    fibres = noise(generator, (32, 2), 3)
    return _paint(colour, (0.13 * rings + 0.22 * fibres).astype(np.float32))


def planks(generator: np.random.Generator, colour: Colour) -> Texture:
    """Staggered floor boards of different shades, with dark seams."""
    rows = 2 * int(generator.integers(4, 9))
    row, column, edge = _cells(rows, 2, stagger=0.5)
    shades = generator.normal(0, 0.17, (rows, 2)).astype(np.float32)
    grain = np.take(
        noise(generator, (32, 2), 3).ravel(), (_Y.astype(int) * SIZE + _X.astype(int) + row * 37 * SIZE) % SIZE**2
    )
    return _paint(colour, shades[row, column] + 0.2 * grain) * np.clip(0.35 + 0.5 * edge, 0, 1)[..., None]


def fabric(generator: np.random.Generator, colour: Colour) -> Texture:
    """Checked cloth with a visible weave."""
    down, across = (int(count) for count in generator.integers(3, 9, 2))
    check = ((_X * across / SIZE) % 1 < 0.35).astype(np.float32) + ((_Y * down / SIZE) % 1 < 0.35)
    weave = ((_X.astype(int) // 2 + _Y.astype(int) // 2) % 2).astype(np.float32) - 0.5
    return _paint(colour, -generator.uniform(0.0, 0.28) * check + 0.1 * weave + 0.1 * noise(generator))


def carpet(generator: np.random.Generator, colour: Colour) -> Texture:
    """A speckled carpet."""
    return _paint(colour, 0.28 * noise(generator, (16, 16), 5) + 0.1 * noise(generator, (3, 3), 2))


def marble(generator: np.random.Generator, colour: Colour) -> Texture:
    """Stone with veins."""
    veins = np.abs(np.sin((noise(generator, (2, 2), 6) * 2 + _X / SIZE) * 2 * np.pi)) ** 0.35
    return _paint(colour, (0.5 * veins - 0.4).astype(np.float32))


def leaf(generator: np.random.Generator, colour: Colour) -> Texture:
    """A leaf with a pale midrib and slanted side veins."""
    side = np.abs(_X - SIZE / 2)
    veins = ((_Y + side) % 40 < 5).astype(np.float32)
    rib = (side < 6).astype(np.float32)
    return _mix(_paint(colour, 0.25 * noise(generator)), np.clip(colour * 1.7, 0, 1), np.maximum(rib, 0.5 * veins))


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
    border = np.minimum.reduce([_X, _Y, SIZE - 1 - _X, SIZE - 1 - _Y])
    accents = [hsv(generator.uniform(), generator.uniform(0.3, 0.8), generator.uniform(0.25, 0.9)) for _ in range(3)]
    texture = _paint(colour, np.zeros_like(_X))
    period = int(generator.integers(12, 28))
    texture[(np.floor(_X / period) + np.floor(_Y / period)) % 2 == 0] = accents[2]
    texture[border < 44] = accents[0]
    texture[(border > 12) & (border < 20)] = colour
    x, y = _X / SIZE * 2 - 1, _Y / SIZE * 2 - 1
    ring = np.abs(x) + np.abs(y) if generator.uniform() < 0.5 else np.hypot(x, y)
    texture[ring < 0.5] = accents[1]
    texture[ring < 0.3] = colour
    return texture * (1 + 0.2 * noise(generator, (32, 32), 3))[..., None]


def poster(generator: np.random.Generator, colour: Colour) -> Texture:
    """A framed picture: a landscape, coloured shapes or a printed page."""
    kind = int(generator.integers(3))
    picture = (_landscape, _shapes, _page)[kind](generator)
    border = np.minimum.reduce([_X, _Y, SIZE - 1 - _X, SIZE - 1 - _Y])
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
    _, _, edge = _cells(rows, columns)
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
    panels = (np.floor(_X / SIZE * 6) + np.floor(_Y / SIZE * int(generator.integers(1, 5)))) % 2
    return _mix(_paint(colour, 0.08 * noise(generator)), other, panels.astype(np.float32))


def plain(generator: np.random.Generator, colour: Colour) -> Texture:
    """One colour, barely mottled."""
    return _paint(colour, 0.05 * noise(generator))


def _landscape(generator: np.random.Generator) -> Texture:
    sky, ground = hsv(generator.uniform(0.5, 0.68), 0.5, 0.95), hsv(generator.uniform(0.15, 0.4), 0.6, 0.55)
    texture = _mix(sky, np.ones(3, np.float32), np.clip(0.7 * noise(generator, (4, 2), 5) + _Y / SIZE * 0.6, 0, 1))
    for layer in range(3):
        ridge = SIZE * (0.45 + 0.15 * layer) + 40 * noise(generator, (1, 2 + layer), 4)[:1]
        shade = _paint(ground * (1.1 - 0.28 * layer), 0.25 * noise(generator, (8, 8), 4))
        texture = np.where((ridge < _Y)[..., None], shade, texture).astype(np.float32)
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


TEXTURES: dict[str, Callable[[np.random.Generator, Colour], Texture]] = {
    recipe.__name__: recipe
    for recipe in (
        plaster, stripes, motifs, bricks, tiles, wood, planks, fabric, carpet, marble, plain,
        leaf, spines, rug, poster, window, door, drawers, ball,
    )
}  # fmt: skip
TILED = frozenset(recipe.__name__ for recipe in (
    plaster, stripes, motifs, bricks, tiles, wood, planks, fabric, carpet, marble, plain,
))  # fmt: skip
