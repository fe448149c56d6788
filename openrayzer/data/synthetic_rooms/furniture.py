"""Furniture of synthetic rooms: each piece is a few boxes, cylinders and spheres in a local frame on the floor.

Local axes: x right, y to the back, z up. The back of a piece is at y = 0 and its middle at x = 0.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from openrayzer.data.synthetic_rooms.faces import TEXTURES
from openrayzer.data.synthetic_rooms.painting import Texture, hsv
from openrayzer.data.synthetic_rooms.surfaces import ELLIPSE, Collector, Extent, Frame, Look, Point
from openrayzer.data.synthetic_rooms.textures import TILED


@dataclass
class Materials:
    """Textures of one room, each made on first use.

    Attributes:
        generator: source of random colours and patterns.
        hue: main hue of the room, 0 to 1; furniture has a hue near it or opposite to it.
        textures: all textures made until now.
        tiled: whether each texture repeats.
    """

    generator: np.random.Generator
    hue: float
    textures: list[Texture] = field(default_factory=list)
    tiled: list[bool] = field(default_factory=list)
    _known: dict[tuple[str, int], int] = field(default_factory=dict)

    def look(self, recipe: str, variant: int = 0, *, tile: float | int = 0.0, glow: float = 0.0) -> Look:
        """The texture of a recipe; each ``variant`` has different colours."""
        if (recipe, variant) not in self._known:
            self._known[recipe, variant] = len(self.textures)
            self.textures.append(TEXTURES[recipe](self.generator, self._colour(recipe)))
            self.tiled.append(recipe in TILED)
        return Look(self._known[recipe, variant], tile, glow)

    def any_of(self, *recipes: str, variant: int = 0, tile: float | int = 0.0) -> Look:
        """The texture of a random recipe among ``recipes``."""
        return self.look(str(self.generator.choice(recipes)), variant, tile=tile)

    def _colour(self, recipe: str) -> np.ndarray:
        uniform = self.generator.uniform
        if recipe in ("wood", "planks", "drawers", "door"):
            return hsv(uniform(0.03, 0.11), uniform(0.25, 0.65), uniform(0.35, 0.85))
        if recipe == "leaf":
            return hsv(uniform(0.2, 0.4), uniform(0.4, 0.8), uniform(0.3, 0.65))
        if recipe in ("bricks", "stones"):
            return hsv(uniform(-0.02, 0.09), uniform(0.15, 0.65), uniform(0.45, 0.8))
        if recipe in ("tiles", "marble", "terrazzo"):
            return hsv(uniform(), uniform(0.03, 0.3), uniform(0.6, 0.9))
        if recipe == "plain":
            return hsv(uniform(), 0.04, uniform(0.86, 0.97))
        hue = self.hue + uniform(-0.08, 0.08) + 0.5 * (uniform() < 0.35)
        if recipe in ("plaster", "stripes", "motifs"):
            return hsv(hue, uniform(0.05, 0.45), uniform(0.65, 0.95))
        return hsv(hue, uniform(0.3, 0.85), uniform(0.35, 0.9))


@dataclass(frozen=True)
class Piece:
    """A kind of furniture that stands against a wall.

    Attributes:
        build: adds a piece of a given width to a room at a frame.
        width: smallest and largest width in metres.
        depth: extent into the room in metres.
        tall: whether it would cover a picture or window.
        single: whether a room has at most one such piece.
    """

    build: Callable[[Collector, Materials, Frame, float], None]
    width: tuple[float, float]
    depth: float
    tall: bool
    single: bool = False


def shelf(room: Collector, materials: Materials, frame: Frame, width: float) -> None:
    """An open bookcase."""
    generator = room.generator
    height, depth, wood = generator.uniform(1.5, 2.2), 0.32, materials.look("wood", 1, tile=0.9)
    for side in (-1, 1):
        room.box(frame, (side * (width / 2 - 0.015), -depth / 2, height / 2), (0.03, depth, height), wood)
    room.box(frame, (0, -0.01, height / 2), (width - 0.06, 0.02, height), wood)
    boards = int(generator.integers(4, 6))
    for board in range(boards + 1):
        z = 0.05 + (height - 0.07) * board / boards
        room.box(frame, (0, -depth / 2, z), (width - 0.06, depth, 0.03), wood, skip=(), shadow=board % 2 == 0)
        if board == boards or generator.uniform() < 0.15:
            continue
        gap = (height - 0.07) / boards
        length = (width - 0.08) * generator.uniform(0.4, 1.0)
        tall, left = gap * generator.uniform(0.6, 0.9), -width / 2 + 0.04
        books = materials.look("spines", int(generator.integers(2)))
        room.box(frame, (left + length / 2, -depth / 2, z + 0.015 + tall / 2), (length, depth * 0.7, tall),
                 materials.look("fabric", 1, tile=0.4), front=books, shadow=False)  # fmt: skip
        if length < 0.6 * width:
            radius = min(0.1, gap * 0.35)
            room.sphere(frame, (width / 4, -depth / 2, z + 0.015 + radius), radius, materials.look("ball", 1))


def cupboard(room: Collector, materials: Materials, frame: Frame, width: float) -> None:
    """A sideboard with ornaments on it."""
    height, depth = room.generator.uniform(0.7, 1.05), 0.45
    front = materials.look("drawers", int(room.generator.integers(2)))
    room.box(
        frame, (0, -depth / 2, height / 2), (width, depth, height), materials.look("wood", 0, tile=0.9), front=front
    )
    room.box(frame, (0, -depth / 2, height + 0.015), (width + 0.04, depth + 0.03, 0.03),
             materials.any_of("marble", "wood", "terrazzo", tile=0.8), shadow=False)  # fmt: skip
    for x in np.arange(-width / 2 + 0.2, width / 2 - 0.1, 0.34):
        ornament(room, materials, Frame(tuple(frame.place((float(x), -depth / 2, height + 0.03))), frame.yaw))


def wardrobe(room: Collector, materials: Materials, frame: Frame, width: float) -> None:
    """A tall closed cupboard."""
    height, depth = room.generator.uniform(1.8, 2.1), 0.58
    room.box(frame, (0, -depth / 2, height / 2), (width, depth, height), materials.look("wood", 2, tile=1.1),
             front=materials.look("drawers", 2))  # fmt: skip
    room.box(
        frame,
        (0, -depth / 2, height + 0.02),
        (width + 0.08, depth + 0.05, 0.05),
        materials.look("wood", 2, tile=1.1),
        skip=(),
    )


def sofa(room: Collector, materials: Materials, frame: Frame, width: float) -> None:
    """A sofa with seat, back, arms and cushions."""
    generator = room.generator
    cloth = materials.any_of("fabric", "carpet", "motifs", "blobs", "facets", variant=2, tile=0.7)
    room.box(frame, (0, -0.45, 0.22), (width, 0.85, 0.36), cloth)
    room.box(frame, (0, -0.12, 0.58), (width, 0.22, 0.5), cloth)
    for side in (-1, 1):
        room.box(frame, (side * (width / 2 - 0.09), -0.45, 0.34), (0.18, 0.85, 0.5), cloth)
    for x in np.linspace(-width / 2 + 0.4, width / 2 - 0.4, max(1, round(width / 0.6))):
        room.box(frame, (float(x), -0.5, 0.45), (0.55, 0.68, 0.12), materials.look("fabric", 3, tile=0.6), shadow=False)
        if generator.uniform() < 0.6:
            cushion = Frame(tuple(frame.place((float(x), -0.32, 0.51))), frame.yaw + generator.uniform(-0.4, 0.4))
            room.box(
                cushion,
                (0, 0, 0.16),
                (0.36, 0.13, 0.32),
                materials.any_of("motifs", "facets", "blobs", variant=4, tile=0.5),
            )


def desk(room: Collector, materials: Materials, frame: Frame, width: float) -> None:
    """A table against a wall, with a screen or books, and a stool."""
    generator, depth = room.generator, 0.65
    table(room, materials, Frame(tuple(frame.place((0, -depth / 2, 0))), frame.yaw), (width, depth), 0.74)
    room.box(frame, (-0.1, -0.2, 0.74 + 0.24), (0.56, 0.05, 0.34), materials.look("plain", 1, tile=1),
             front=materials.look("poster", 5))  # fmt: skip
    room.box(frame, (-0.1, -0.2, 0.78), (0.1, 0.06, 0.08), materials.look("plain", 1, tile=1), shadow=False)
    ornament(room, materials, Frame(tuple(frame.place((width / 2 - 0.2, -0.3, 0.74))), frame.yaw))
    if generator.uniform() < 0.7:
        chair(room, materials, Frame(tuple(frame.place((0.1, -depth - 0.1, 0))), frame.yaw + np.pi))


def table(room: Collector, materials: Materials, frame: Frame, size: Extent, height: float) -> None:
    """A rectangular table centred at the local origin."""
    top = materials.any_of("wood", "marble", "wood", "terrazzo", variant=3, tile=0.9)
    room.box(frame, (0, 0, height - 0.02), (*size, 0.04), top, skip=())
    for x in (-1, 1):
        for y in (-1, 1):
            leg = (x * (size[0] / 2 - 0.06), y * (size[1] / 2 - 0.06), height / 2 - 0.02)
            room.box(frame, leg, (0.06, 0.06, height - 0.04), materials.look("wood", 0, tile=0.9))


def round_table(room: Collector, materials: Materials, frame: Frame, radius: float, height: float) -> None:
    """A round table on one foot, centred at the local origin."""
    wood = materials.look("wood", 3, tile=0.9)
    room.cylinder(frame, (0, 0, height - 0.02), radius, 0.04, wood)
    room.cylinder(frame, (0, 0, height / 2), 0.05, height - 0.04, wood)
    room.cylinder(frame, (0, 0, 0.02), radius * 0.5, 0.04, wood, shadow=False)


def chair(room: Collector, materials: Materials, frame: Frame) -> None:
    """A chair centred at the local origin; its back is at +y."""
    wood = materials.look("wood", 1, tile=0.9)
    for x in (-0.19, 0.19):
        for y in (-0.19, 0.19):
            height = 0.92 if y > 0 else 0.44
            room.box(frame, (x, y, height / 2), (0.04, 0.04, height), wood, shadow=False)
    room.box(frame, (0, 0, 0.45), (0.44, 0.44, 0.05), materials.look("fabric", 1, tile=0.4), skip=())
    room.box(frame, (0, 0.19, 0.78), (0.36, 0.03, 0.26), wood)


def plant(room: Collector, materials: Materials, frame: Frame, width: float) -> None:
    """A pot with a fan of leaves."""
    generator, middle = room.generator, Frame(tuple(frame.place((0, -0.32, 0))), frame.yaw)
    pot = generator.uniform(0.25, 0.4)
    room.cylinder(
        middle,
        (0, 0, pot / 2),
        0.16,
        pot,
        materials.any_of("marble", "motifs", "bricks", "stones", variant=5, tile=0.5),
    )
    _leaves(room, materials, middle, (0, 0, pot), generator.uniform(0.35, 0.6), int(generator.integers(9, 15)))


def _leaves(room: Collector, materials: Materials, frame: Frame, base: Point, length: float, count: int) -> None:
    generator, look = room.generator, materials.look("leaf")
    for number in range(count):
        turn, lean = 2.4 * number, generator.uniform(0.15, 1.1)
        out = np.array([np.cos(turn), np.sin(turn), 0])
        stem = np.cos(lean) * np.array([0, 0, 1.0]) + np.sin(lean) * out
        side = np.cross(stem, out) / np.linalg.norm(np.cross(stem, out))
        reach = length * generator.uniform(0.6, 1.0)
        centre = frame.place(base) + stem * reach * 0.62
        for sign in (-1, 1):  # a leaf has two faces
            room.flat(ELLIPSE, centre, sign * side * reach * 0.17, -stem * reach * 0.5, look)


def floor_lamp(room: Collector, materials: Materials, frame: Frame, width: float) -> None:
    """A pole with a glowing lamp shade."""
    middle = Frame(tuple(frame.place((0, -0.25, 0))), frame.yaw)
    pole = materials.look("plain", 2, tile=0.8)
    room.cylinder(middle, (0, 0, 0.015), 0.15, 0.03, pole, shadow=False)
    room.cylinder(middle, (0, 0, 0.75), 0.018, 1.5, pole, shadow=False)
    room.cylinder(middle, (0, 0, 1.55), 0.2, 0.3, materials.look("fabric", 6, tile=0.3, glow=1.35), shadow=False)


def ornament(room: Collector, materials: Materials, frame: Frame) -> None:
    """A small object at the local origin: vase, ball, box, books, plant or lamp."""
    generator = room.generator
    kind = int(generator.integers(6))
    if kind == 0:
        height = generator.uniform(0.12, 0.35)
        room.cylinder(
            frame, (0, 0, height / 2), generator.uniform(0.04, 0.08), height, materials.look("motifs", 7, tile=0.25)
        )
    elif kind == 1:
        radius = generator.uniform(0.06, 0.13)
        room.sphere(frame, (0, 0, radius), radius, materials.look("ball", 0))
    elif kind == 2:
        size = generator.uniform((0.1, 0.08, 0.08), (0.26, 0.16, 0.3))
        turned = Frame(frame.origin, frame.yaw + generator.uniform(-0.5, 0.5))
        room.box(
            turned,
            (0, 0, size[2] / 2),
            tuple(size),
            materials.any_of("tiles", "stripes", "bricks", variant=7, tile=0.3),
        )
    elif kind == 3:
        for number in range(int(generator.integers(1, 5))):
            turned = Frame(frame.origin, frame.yaw + generator.uniform(-0.3, 0.3))
            cover = materials.look("fabric", int(generator.integers(1, 4)), tile=0.5)
            room.box(turned, (0, 0, 0.02 + 0.04 * number), (0.24, 0.17, 0.038), cover, shadow=number == 0)
    elif kind == 4:
        room.cylinder(frame, (0, 0, 0.05), 0.06, 0.1, materials.look("bricks", 5, tile=0.5), shadow=False)
        _leaves(room, materials, frame, (0, 0, 0.1), generator.uniform(0.15, 0.25), 7)
    else:
        room.cylinder(frame, (0, 0, 0.1), 0.02, 0.2, materials.look("plain", 2, tile=0.5), shadow=False)
        room.cylinder(frame, (0, 0, 0.26), 0.1, 0.14, materials.look("fabric", 6, tile=0.3, glow=1.3), shadow=False)


PIECES = (
    Piece(shelf, (0.8, 1.5), 0.35, True),
    Piece(cupboard, (0.9, 1.7), 0.5, False),
    Piece(wardrobe, (0.9, 1.6), 0.62, True),
    Piece(sofa, (1.3, 2.2), 0.95, False, single=True),
    Piece(desk, (1.1, 1.6), 0.95, False),
    Piece(plant, (0.6, 0.6), 0.6, False),
    Piece(floor_lamp, (0.45, 0.45), 0.45, False, single=True),
)
