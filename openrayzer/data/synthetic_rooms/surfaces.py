"""Surfaces of a synthetic room: flat surfaces, spheres and cylinders, and the solids that cast shadows.

World axes: x and y along the floor, z up, metres. Every surface is parametrised by (u, v) in [0, 1].
"""

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Int

RECTANGLE, ELLIPSE, SPHERE, CYLINDER = range(4)

Point = tuple[float | int, float | int, float | int]
"""x, y, z in metres."""
Extent = tuple[float | int, float | int]
"""Width and height in metres."""


@dataclass(frozen=True)
class Look:
    """Material of a surface.

    Attributes:
        texture: number of the texture in the room's atlas.
        tile: side of one texture tile in metres; 0 stretches the texture over the surface once.
        glow: factor on the texture of a surface that emits light; 0 for surfaces that are lit.
    """

    texture: int
    tile: float | int = 0.0
    glow: float = 0.0


@dataclass(frozen=True)
class Surfaces:
    """All surfaces of a room, one row per surface.

    Attributes:
        kind: RECTANGLE, ELLIPSE, SPHERE or CYLINDER (without its ends).
        centre: world position.
        axes: three orthogonal half extents. Flat surfaces: right, down (seen from outside) and a zero row. Spheres and
            cylinders: two radii, then the radius or half length along the polar axis.
        normal: outward unit normal of flat surfaces; polar axis of spheres and cylinders.
        texture: number of the texture in the atlas.
        repeats: number of texture tiles along u and v.
        offset: texture coordinates at u = v = 0, in tiles.
        glow: see ``Look``.
    """

    kind: Int[np.ndarray, " n"]
    centre: Float[np.ndarray, "n 3"]
    axes: Float[np.ndarray, "n 3 3"]
    normal: Float[np.ndarray, "n 3"]
    texture: Int[np.ndarray, " n"]
    repeats: Float[np.ndarray, "n 2"]
    offset: Float[np.ndarray, "n 2"]
    glow: Float[np.ndarray, " n"]

    def __len__(self) -> int:
        return len(self.kind)

    def points(
        self, surface: Int[np.ndarray, " m"], u: Float[np.ndarray, " m"], v: Float[np.ndarray, " m"]
    ) -> tuple[Float[np.ndarray, "m 3"], Float[np.ndarray, "m 3"]]:
        """World positions and unit normals of points, given by surface number and surface coordinates."""
        kind, axes = self.kind[surface], self.axes[surface]
        across, a, b = 2 * np.pi * (u - 0.5), 2 * u - 1, 2 * v - 1
        polar = np.where(kind == SPHERE, np.pi * v, np.pi / 2)
        weights = np.stack([np.sin(polar) * np.cos(across), np.sin(polar) * np.sin(across), np.cos(polar)], axis=-1)
        weights[kind == CYLINDER, 2] = -b[kind == CYLINDER]
        flat = kind <= ELLIPSE
        weights[flat] = np.stack([a, b, np.zeros_like(a)], axis=-1)[flat]
        offset = np.einsum("mi, mix -> mx", weights, axes)
        outward = np.where((kind == CYLINDER)[:, None], np.einsum("mi, mix -> mx", weights[:, :2], axes[:, :2]), offset)
        outward = np.where(flat[:, None], self.normal[surface], outward)
        return self.centre[surface] + offset, outward / np.linalg.norm(outward, axis=-1, keepdims=True)


@dataclass(frozen=True)
class Frame:
    """A local frame on the floor, in which furniture is described: x right, y to the back, z up.

    Attributes:
        origin: world position of the local origin.
        yaw: rotation about the z axis in radians.
    """

    origin: Point = (0.0, 0.0, 0.0)
    yaw: float = 0.0

    @property
    def rotation(self) -> Float[np.ndarray, "3 3"]:
        """World directions of the local axes, one per row."""
        cosine, sine = np.cos(self.yaw), np.sin(self.yaw)
        return np.array([[cosine, sine, 0], [-sine, cosine, 0], [0, 0, 1]])

    def place(self, point: Point) -> Float[np.ndarray, " 3"]:
        """World position of a local point."""
        return np.asarray(self.origin) + np.asarray(point) @ self.rotation


_FACES = {  # normal, right and down of each face of a box, as axis number and sign
    "front": ((1, -1), (0, 1), (2, -1)), "back": ((1, 1), (0, -1), (2, -1)),
    "right": ((0, 1), (1, 1), (2, -1)), "left": ((0, -1), (1, -1), (2, -1)),
    "top": ((2, 1), (0, 1), (1, -1)), "bottom": ((2, -1), (0, 1), (1, 1)),
}  # fmt: skip


@dataclass
class Collector:
    """Collects surfaces and shadow casters while a room is furnished.

    Attributes:
        generator: source of random texture offsets.
        boxes: (centre, rotation with unit axes in rows, half extents) of each box that casts a shadow.
        balls: (centre, radius) of each ball that casts a shadow.
    """

    generator: np.random.Generator
    boxes: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = field(default_factory=list)
    balls: list[tuple[np.ndarray, float]] = field(default_factory=list)
    _rows: list[tuple] = field(default_factory=list)

    def surfaces(self) -> Surfaces:
        """All surfaces collected until now."""
        kinds, centres, axes, textures, repeats, offsets, glows = (
            np.array(column) for column in zip(*self._rows, strict=True)
        )
        normals = np.where((kinds <= ELLIPSE)[:, None], np.cross(axes[:, 1], axes[:, 0]), axes[:, 2])
        normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
        return Surfaces(kinds, centres, axes, normals, textures, repeats, offsets, glows)

    def box(
        self,
        frame: Frame,
        centre: Point,
        size: Point,
        look: Look,
        *,
        front: Look | None = None,
        inside: bool = False,
        shadow: bool = True,
        skip: tuple[str, ...] = ("bottom",),
    ) -> None:
        """Add a box with full extents ``size``; with ``inside``, its faces are visible from inside the box."""
        rotation, half = frame.rotation, np.asarray(size) / 2
        middle = frame.place(centre)
        for name, ((axis, sign), (right, right_sign), (down, down_sign)) in _FACES.items():
            if name in skip:
                continue
            normal = sign * rotation[axis]
            across = right_sign * rotation[right] * half[right]
            descent = down_sign * rotation[down] * half[down]
            face_look = front if front is not None and name == "front" else look
            turned = -1 if inside else 1
            self.flat(RECTANGLE, middle + normal * half[axis], turned * across, descent, face_look)
        if shadow and not inside:
            self.boxes.append((middle, rotation, half))

    def picture(self, frame: Frame, centre: Point, size: Extent, look: Look) -> None:
        """Add an upright rectangle that faces the local front (-y)."""
        right, _, up = frame.rotation
        self.flat(RECTANGLE, frame.place(centre), right * size[0] / 2, -up * size[1] / 2, look)

    def lying(self, frame: Frame, centre: Point, size: Extent, look: Look, *, kind: int) -> None:
        """Add a rectangle or ellipse that faces up, e.g. a rug."""
        right, back, _ = frame.rotation
        self.flat(kind, frame.place(centre), right * size[0] / 2, -back * size[1] / 2, look)

    def cylinder(
        self,
        frame: Frame,
        centre: Point,
        radius: float,
        height: float,
        look: Look,
        *,
        top: Look | None = None,
        shadow: bool = True,
    ) -> None:
        """Add an upright cylinder with both ends."""
        right, back, up = frame.rotation
        middle, top = frame.place(centre), top or look
        self._add(CYLINDER, middle, np.stack([right * radius, back * radius, up * height / 2]), look,
                  (2 * np.pi * radius, height))  # fmt: skip
        self.flat(ELLIPSE, middle + up * height / 2, right * radius, -back * radius, top)
        self.flat(ELLIPSE, middle - up * height / 2, right * radius, back * radius, top)
        if shadow:
            inner = 0.68 * radius  # a box inside the cylinder, so that it does not shade its own surface
            self.boxes.append((middle, frame.rotation, np.array([inner, inner, height / 2])))

    def sphere(self, frame: Frame, centre: Point, radius: float, look: Look, *, shadow: bool = True) -> None:
        """Add a sphere."""
        middle = frame.place(centre)
        self._add(SPHERE, middle, frame.rotation * radius, look, (2 * np.pi * radius, np.pi * radius))
        if shadow:
            self.balls.append((middle, radius))

    def flat(
        self,
        kind: int,
        centre: Float[np.ndarray, " 3"],
        right: Float[np.ndarray, " 3"],
        down: Float[np.ndarray, " 3"],
        look: Look,
    ) -> None:
        """Add a rectangle or ellipse with half extents ``right`` and ``down``; its front faces ``down`` x ``right``."""
        size = (2 * float(np.linalg.norm(right)), 2 * float(np.linalg.norm(down)))
        self._add(kind, centre, np.stack([right, down, np.zeros(3)]), look, size)

    def _add(self, kind: int, centre: np.ndarray, axes: np.ndarray, look: Look, size: Extent) -> None:
        if look.tile:
            repeats = np.maximum(np.asarray(size) / look.tile, 1e-3)
            if kind in (SPHERE, CYLINDER):
                repeats[0] = max(1, round(repeats[0]))  # no seam where u wraps
            offset = self.generator.uniform(0, 1, 2)
        else:
            repeats, offset = np.ones(2), np.zeros(2)
        self._rows.append((kind, centre, axes, look.texture, repeats, offset, look.glow))
