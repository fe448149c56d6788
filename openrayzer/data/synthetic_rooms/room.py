"""Small furnished rooms, built from a random generator."""

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from openrayzer.data.synthetic_rooms.atlas import Atlas, build_atlas
from openrayzer.data.synthetic_rooms.exposures import CONSTANT, Exposure
from openrayzer.data.synthetic_rooms.furniture import PIECES, Materials, Piece, chair, ornament, round_table, table
from openrayzer.data.synthetic_rooms.lighting import Light, Lightmap, bake
from openrayzer.data.synthetic_rooms.painting import hsv
from openrayzer.data.synthetic_rooms.renderer import render, trace
from openrayzer.data.synthetic_rooms.surfaces import ELLIPSE, RECTANGLE, Collector, Frame, Surfaces


@dataclass(frozen=True)
class Room:
    """A furnished and lit room, ready to be rendered.

    Attributes:
        size: extents along x, y (floor) and z (up) in metres; one corner of the floor is the origin.
        surfaces: all surfaces of the room.
        atlas: their textures.
        lightmap: their light.
        obstacles: boxes (lowest corner, highest corner) that a camera avoids.
    """

    size: Float[np.ndarray, " 3"]
    surfaces: Surfaces
    atlas: Atlas
    lightmap: Lightmap
    obstacles: Float[np.ndarray, "o 2 3"]

    def view(
        self,
        c2w: Float[np.ndarray, "4 4"],
        intrinsics: Float[np.ndarray, " 4"],
        *,
        size: tuple[int, int],
        exposure: Exposure = CONSTANT,
    ) -> UInt8[np.ndarray, "h w 3"]:
        """Render an antialiased RGB picture of ``size`` (height, width) in pixels."""
        picture = render(self.surfaces, self.atlas, self.lightmap, c2w, intrinsics, size=size, gain=exposure.gain)
        return picture if exposure.gamma == 1 else cv2.LUT(picture, exposure.table)

    def depth(
        self, c2w: Float[np.ndarray, "4 4"], intrinsics: Float[np.ndarray, " 4"], *, size: tuple[int, int]
    ) -> Float[np.ndarray, "h w"]:
        """Depth along the optical axis at the pixel centres, in metres; infinite where a ray meets nothing."""
        inverse = trace(self.surfaces, c2w, intrinsics, size=size).inverse_depth
        return np.divide(1, inverse, out=np.full_like(inverse, np.inf), where=inverse > 0)


def make_room(generator: np.random.Generator) -> Room:
    """Build a room; ``generator`` is the source of all randomness."""
    return _Furnisher(generator).finish()


class _Furnisher:
    """State shared by the steps of furnishing a room."""

    def __init__(self, generator: np.random.Generator) -> None:
        self.generator = generator
        self.size = generator.uniform((3.6, 3.6, 2.4), (5.6, 5.6, 3.0))
        self.room = Collector(generator)
        self.materials = Materials(generator, generator.uniform())
        self.obstacles: list[np.ndarray] = []
        self.lights: list[Light] = []
        self.pictures = 0
        self.pieces = list(PIECES)
        width, depth, _ = self.size
        self.walls = (  # frame with its front towards the room, and length of the wall
            (Frame((width / 2, depth, 0), 0.0), width),
            (Frame((width / 2, 0, 0), np.pi), width),
            (Frame((width, depth / 2, 0), -np.pi / 2), depth),
            (Frame((0, depth / 2, 0), np.pi / 2), depth),
        )

    def finish(self) -> Room:
        """Furnish and light the room."""
        self._shell()
        windows = self.generator.permutation(4)[: int(self.generator.integers(1, 3))]
        doors = self.generator.integers(4)
        for number, (frame, length) in enumerate(self.walls):
            self._wall(frame, length, number in windows, bool(number == doors), corner=0.1 if number < 2 else 0.95)
        self._middle()
        self._lamp()
        self._spot()
        surfaces = self.room.surfaces()
        tint = hsv(self.generator.uniform(), self.generator.uniform(0.0, 0.2), 1.0)
        lightmap = bake(
            surfaces,
            self.room,
            self.lights,
            room=np.stack([np.zeros(3), self.size]),
            ambient=tint * self.generator.uniform(0.08, 0.3),
            exposure=self.generator.uniform(0.5, 0.85),
        )
        atlas = build_atlas(self.materials.textures, self.materials.tiled)
        return Room(self.size, surfaces, atlas, lightmap, np.array(self.obstacles).reshape(-1, 2, 3))

    def _shell(self) -> None:
        width, depth, height = self.size
        generator, look = self.generator, self.materials.look
        scales = np.exp(generator.uniform(np.log(0.8), np.log(3.0), 3))
        main = self.materials.any_of("plaster", "stripes", "motifs", "bricks", "stones", tile=scales[0])
        accent = self.materials.any_of("bricks", "stripes", "plaster", "tiles", "motifs", "stones", "facets", "blobs",
                                       variant=1, tile=scales[1])  # fmt: skip
        floor = self.materials.any_of("planks", "planks", "tiles", "carpet", "marble", "terrazzo", "stones",
                                      tile=scales[2])  # fmt: skip
        special = generator.integers(4)
        for number, (frame, length) in enumerate(self.walls):
            wall = accent if number == special else main
            self.room.picture(frame, (0, 0, height / 2), (length, height), wall)
            self.room.box(frame, (0, -0.01, 0.05), (length, 0.02, 0.1), look("plain", 0, tile=1.0), shadow=False)
        whole = Frame((width / 2, depth / 2, 0), 0.0)
        self.room.lying(whole, (0, 0, 0), (width, depth), floor, kind=RECTANGLE)
        right, back, _ = whole.rotation
        ceiling = look("planks", 9, tile=2.0) if generator.uniform() < 0.25 else look("plain", 0, tile=2.0)
        self.room.flat(RECTANGLE, whole.place((0, 0, height)), right * width / 2, back * depth / 2, ceiling)
        if generator.uniform() < 0.35:
            for y in np.arange(-depth / 2 + 0.5, depth / 2, 0.9):
                self.room.box(whole, (0, float(y), height - 0.07), (width, 0.14, 0.14), look("wood", 2, tile=1.1),
                              skip=("top", "left", "right"), shadow=False)  # fmt: skip

    def _wall(self, frame: Frame, length: float, windowed: bool, with_door: bool, *, corner: float) -> None:
        generator, left, end = self.generator, -length / 2 + corner, length / 2 - corner
        if with_door:
            at = left + 0.5 if generator.uniform() < 0.5 else end - 0.5
            self.room.box(frame, (at, -0.02, 1.0), (0.95, 0.04, 2.0), self.materials.look("plain", 0, tile=1.0),
                          front=self.materials.look("door"), shadow=False)  # fmt: skip
            left, end = (at + 0.6, end) if at < 0 else (left, at - 0.6)
        if windowed:
            self._window(frame, (left + end) / 2, min(1.6, end - left - 0.3))
        while left < end - 0.5:
            left += generator.uniform(0.02, 0.35)
            pieces = [piece for piece in self.pieces if piece.width[0] <= end - left and not (windowed and piece.tall)]
            if not pieces:
                break
            piece = pieces[generator.integers(len(pieces))]
            if piece.single:
                self.pieces.remove(piece)
            width = min(generator.uniform(*piece.width), end - left)
            if generator.uniform() < 0.85:
                self._set(piece, Frame(tuple(frame.place((left + width / 2, -0.03, 0))), frame.yaw), width)
            if not windowed and not piece.tall and generator.uniform() < 0.9:
                self._picture(frame, left + width / 2, width)
            left += width

    def _set(self, piece: Piece, frame: Frame, width: float) -> None:
        piece.build(self.room, self.materials, frame, width)
        corners = np.array([frame.place((side * width / 2, back, 0)) for side in (-1, 1) for back in (0, -piece.depth)])
        low, high = corners.min(axis=0), corners.max(axis=0)
        high[2] = 2.3 if piece.tall else 1.4
        self.obstacles.append(np.stack([low, high]))

    def _picture(self, frame: Frame, x: float, width: float) -> None:
        size = np.minimum(self.generator.uniform((0.35, 0.35), (1.0, 0.8)), (width, self.size[2] - 1.6))
        look = self.materials.look("poster", self.pictures % 4)
        self.pictures += 1
        self.room.box(frame, (x, -0.015, 1.6), (float(size[0]), 0.03, float(size[1])),
                      self.materials.look("wood", 0, tile=0.9), front=look, skip=("back",), shadow=False)  # fmt: skip

    def _window(self, frame: Frame, x: float, width: float) -> None:
        height, sill = self.generator.uniform(1.0, 1.3), self.generator.uniform(0.9, 1.05)
        middle = sill + height / 2
        look = self.materials.look
        self.room.picture(frame, (x, -0.01, middle), (width, height), look("window", glow=1.15))
        self.room.box(frame, (x, -0.08, sill - 0.02), (width + 0.2, 0.16, 0.04), look("plain", 0, tile=1), shadow=False)
        for side in (-1, 1):
            self.room.box(frame, (x + side * (width / 2 + 0.1), -0.06, middle), (0.26, 0.08, height + 0.4),
                          look("stripes", 8, tile=0.5), shadow=False)  # fmt: skip
        spots = [(x + 0.3 * a * width, -0.06, middle + 0.3 * b * height) for a in (-1, 1) for b in (-1, 1)]
        hue = self.generator.choice([0.6, 0.6, 0.08]) + self.generator.uniform(-0.06, 0.06)  # daylight, or a low sun
        colour = hsv(hue, self.generator.uniform(0.02, 0.35), 1.0) * self.generator.uniform(0.3, 4.0)
        inwards = -frame.rotation[1]
        self.lights.append(Light(np.array([frame.place(spot) for spot in spots]), colour, inwards))

    def _lamp(self) -> None:
        frame = Frame((*(self.size[:2] * self.generator.uniform(0.4, 0.6, 2)), 0.0), 0.0)
        height, drop, radius = self.size[2], self.generator.uniform(0.05, 0.5), self.generator.uniform(0.12, 0.24)
        glowing = self.materials.look("plain", 3, tile=1, glow=1.3)
        below = height - drop
        if self.generator.uniform() < 0.5:
            self.room.sphere(frame, (0, 0, below - radius), radius, glowing, shadow=False)
        else:
            shade = self.materials.look("fabric", 6, tile=0.3, glow=1.2)
            self.room.cylinder(frame, (0, 0, below - 0.09), radius, 0.18, shade, top=glowing, shadow=False)
        self.room.cylinder(
            frame, (0, 0, height - drop / 2), 0.012, drop, self.materials.look("plain", 2, tile=1), shadow=False
        )
        spots = [frame.place((0.15 * np.cos(turn), 0.15 * np.sin(turn), below - 0.2)) for turn in (0, 2.1, 4.2)]
        colour = hsv(self.generator.uniform(0.05, 0.15), 0.25, 1.0) * self.generator.uniform(0.2, 2.0)
        self.lights.append(Light(np.array(spots), colour, np.zeros(3)))
        self._obstacle(frame.place((0, 0, 0)), radius, below - 2 * radius, height)

    def _spot(self) -> None:
        """A light of any colour at a random place, e.g. a screen or a lamp behind a piece of furniture."""
        place = self.size * self.generator.uniform((0.1, 0.1, 0.15), (0.9, 0.9, 0.7))
        colour = hsv(self.generator.uniform(), self.generator.uniform(0.1, 0.6), 1.0) * self.generator.uniform(0, 1.2)
        self.lights.append(Light(place[None], colour, np.zeros(3)))

    def _middle(self) -> None:
        generator, (width, depth, _) = self.generator, self.size
        frame = Frame((*(np.array([width, depth]) * generator.uniform(0.38, 0.62, 2)), 0.0), generator.uniform(0, 6.3))
        if generator.uniform() < 0.75:
            look = self.materials.look("rug")
            kind = ELLIPSE if generator.uniform() < 0.3 else RECTANGLE
            size = generator.uniform((1.4, 1.0), (2.2, 1.6))
            self.room.lying(frame, (0, 0, 0.008), tuple(size), look, kind=kind)
        height = generator.choice([0.42, 0.74])
        reach = generator.uniform(0.4, 0.6)
        if generator.uniform() < 0.4:
            round_table(self.room, self.materials, frame, reach, height)
        else:
            table(self.room, self.materials, frame, (2 * reach, 1.3 * reach), height)
        if height > 0.5:
            for side in generator.permutation(4)[: int(generator.integers(1, 4))]:
                turn = frame.yaw + side * np.pi / 2
                place = np.asarray(frame.origin) + (reach + 0.1) * np.array([-np.sin(turn), np.cos(turn), 0])
                chair(self.room, self.materials, Frame(tuple(place), turn + generator.uniform(-0.3, 0.3)))
        for x in (-0.22, 0.12):
            top = frame.place((x, generator.uniform(-0.1, 0.1), height))
            ornament(self.room, self.materials, Frame(tuple(top), frame.yaw + generator.uniform(-0.5, 0.5)))
        self._obstacle(np.asarray(frame.origin), reach, 0.0, height + 0.35)
        self._toys()

    def _obstacle(self, middle: Float[np.ndarray, " 3"], reach: float, bottom: float, top: float) -> None:
        low, high = middle - reach, middle + reach
        low[2], high[2] = bottom, top
        self.obstacles.append(np.stack([low, high]))

    def _toys(self) -> None:
        for number in range(int(self.generator.integers(0, 4))):
            place = (*(self.size[:2] * self.generator.uniform(0.25, 0.75, 2)), 0.0)
            frame, radius = Frame(place, self.generator.uniform(0, 6.3)), self.generator.uniform(0.09, 0.2)
            if self.generator.uniform() < 0.6:
                self.room.sphere(frame, (0, 0, radius), radius, self.materials.look("ball", number % 2))
            else:
                crate = self.materials.any_of("wood", "tiles", "fabric", "facets", "blobs", variant=4, tile=0.6)
                self.room.box(frame, (0, 0, radius), (2 * radius, 1.6 * radius, 2 * radius), crate)
