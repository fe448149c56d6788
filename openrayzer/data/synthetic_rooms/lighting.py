"""Light in a synthetic room, computed once per room: soft shadows, Lambert's law and ambient occlusion.

The result is a light map, a small picture per surface that the renderer multiplies with the texture. Light does not
depend on the camera, so a point has the same colour in every view.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from openrayzer.data.synthetic_rooms.surfaces import CYLINDER, SPHERE, Collector, Surfaces

TEXEL = 0.17
"""Metres between light samples."""
_REACH = 0.9
"""Largest distance in metres at which an obstacle darkens a point."""
_DIRECTIONS = 24
_GAMMA = 1 / 2.2


@dataclass(frozen=True)
class Light:
    """A lamp or window as a set of point lights.

    Attributes:
        points: world positions in metres.
        colour: linear light at a distance of 1 m on a surface that faces the light.
        normal: direction in which a window shines; zeros for a lamp, which shines in all directions.
    """

    points: Float[np.ndarray, "s 3"]
    colour: Float[np.ndarray, " 3"]
    normal: Float[np.ndarray, " 3"]


@dataclass(frozen=True)
class Lightmap:
    """Light on all surfaces, in one picture.

    Attributes:
        picture: factor on the display values of the texture.
        left, top: column and row of the first sample of each surface.
        width, height: number of samples of each surface along u and v.
    """

    picture: Float[np.ndarray, "rows columns 3"]
    left: Float[np.ndarray, " n"]
    top: Float[np.ndarray, " n"]
    width: Float[np.ndarray, " n"]
    height: Float[np.ndarray, " n"]

    def coordinates(
        self, surface: Int[np.ndarray, "h w"], u: Float[np.ndarray, "h w"], v: Float[np.ndarray, "h w"]
    ) -> tuple[Float[np.ndarray, "h w"], Float[np.ndarray, "h w"]]:
        """Columns and rows in the picture for ``cv2.remap``, with samples at whole numbers."""
        columns = u * (self.width - 1).take(surface) + self.left.take(surface)
        rows = v * (self.height - 1).take(surface) + self.top.take(surface)
        return columns, rows


def bake(
    surfaces: Surfaces,
    solids: Collector,
    lights: Sequence[Light],
    *,
    room: Float[np.ndarray, "2 3"],
    ambient: Float[np.ndarray, " 3"],
    exposure: float,
) -> Lightmap:
    """Compute the light map of a room.

    Args:
        surfaces: the surfaces to light.
        solids: boxes and balls that cast shadows.
        lights: lamps and windows.
        room: lowest and highest corner in metres.
        ambient: linear light from all directions.
        exposure: mean display value of white surfaces in this light.
    """
    maps = _layout(surfaces)
    owner, row, column = _samples(maps)
    # Samples keep a distance from the edges, where they could lie inside a neighbouring solid.
    u, v = (
        np.clip(place / np.maximum(count - 1, 1), 0.02, 0.98)
        for place, count in ((column, maps.width[owner]), (row, maps.height[owner]))
    )
    points, normals = (values.astype(np.float32) for values in surfaces.points(owner, u, v))
    points += np.float32(0.004) * normals
    local = _local(points, solids)
    total = ambient * _openness(points, normals, local, solids, room)[:, None]
    for light in lights:
        total += _direct(points, normals, local, solids, light)[:, None] * light.colour
    # Display values are linear light to the power 1 / 2.2, so the factor to the same power applies to display values.
    factor = total**_GAMMA
    factor = np.minimum(factor * (exposure / factor.mean()), 1.6)
    glow = surfaces.glow[owner, None]
    maps.picture[row + maps.top.astype(int)[owner], column] = np.where(glow > 0, glow, factor)
    return maps


def _layout(surfaces: Surfaces) -> Lightmap:
    length = 2 * np.linalg.norm(surfaces.axes[:, :2], axis=-1)
    length[surfaces.kind == SPHERE] *= [np.pi, np.pi / 2]
    round_ones = surfaces.kind == CYLINDER
    length[round_ones, 0] *= np.pi
    length[round_ones, 1] = 2 * np.linalg.norm(surfaces.axes[round_ones, 2], axis=-1)
    counts = np.clip(np.ceil(length / TEXEL), 1, 40).astype(int) + 1
    counts[surfaces.kind >= SPHERE] = np.maximum(counts[surfaces.kind >= SPHERE], (9, 4))
    counts[surfaces.glow > 0] = 1
    top = np.concatenate([[0], np.cumsum(counts[:, 1])[:-1]])
    picture = np.ones((counts[:, 1].sum(), counts[:, 0].max(), 3), np.float32)
    width, height = counts.T.astype(np.float32)
    return Lightmap(picture, np.zeros(len(surfaces), np.float32), top.astype(np.float32), width, height)


def _samples(maps: Lightmap) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Surface number, and row and column in the map of this surface, of every sample."""
    width, counts = maps.width.astype(int), (maps.width * maps.height).astype(int)
    owner = np.repeat(np.arange(len(counts)), counts)
    place = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    return owner, place // width[owner], place % width[owner]


@dataclass(frozen=True)
class _Local:
    """Points in the frame of each box, where the box is the cube [-1, 1]: one (3, n) array per box."""

    points: list[np.ndarray]


def _local(points: np.ndarray, solids: Collector) -> _Local:
    return _Local(
        [
            np.ascontiguousarray(((points - centre.astype(np.float32)) @ (rotation.T / half).astype(np.float32)).T)
            for centre, rotation, half in solids.boxes
        ]
    )


def _direct(
    points: np.ndarray, normals: np.ndarray, local: _Local, solids: Collector, light: Light
) -> Float[np.ndarray, " n"]:
    """Light of unit colour from one lamp or window, with shadows."""
    total = np.zeros(len(points), np.float32)
    for source in light.points.astype(np.float32):
        towards = source - points
        square = np.einsum("nc, nc -> n", towards, towards)
        distance = np.sqrt(square)
        facing = np.einsum("nc, nc -> n", towards, normals) / distance
        if light.normal.any():
            facing = facing * np.maximum(-(towards @ light.normal.astype(np.float32)) / distance, 0)
        lit = facing > 0
        lit &= ~_blocked(points, source, lit, local, solids)
        total += lit * facing / (square + 0.3)  # a lamp has some size; this prevents a pole at its centre
    return total / len(light.points)


def _blocked(
    points: np.ndarray, source: np.ndarray, lit: np.ndarray, local: _Local, solids: Collector
) -> Bool[np.ndarray, " n"]:
    """Whether a solid lies between each point and ``source``; computed only where ``lit`` is True."""
    blocked = np.zeros(len(points), bool)
    for (centre, rotation, half), start in zip(solids.boxes, local.points, strict=True):
        end = ((source - centre) @ rotation.T / half).astype(np.float32)
        if np.abs(end).max() < 1:
            continue  # the shade of the lamp itself
        candidates = lit & ~blocked
        for axis in np.flatnonzero(
            np.abs(end) >= 1
        ):  # both ends beyond one face of the cube: no hit, the most frequent case
            candidates &= start[axis] * np.sign(end[axis]) < 1
        rest = np.flatnonzero(candidates)
        begin = start[:, rest]
        enter, leave = _span(begin, end[:, None] - begin)
        blocked[rest] = (leave > np.maximum(enter, 0)) & (enter < 1)
    for centre, radius in solids.balls:
        towards, offset = source - points, points - centre.astype(np.float32)
        along = np.clip(-np.sum(offset * towards, -1) / np.sum(towards * towards, -1), 0, 1)
        gap = offset + along[:, None] * towards
        inside = np.sum((source - centre) ** 2) < radius**2
        blocked |= (np.sum(gap * gap, -1) < radius**2 * 0.98) & (not inside)
    return blocked


def _span(start: np.ndarray, towards: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ray parameters where rays enter and leave the cube [-1, 1]; for a miss the first is larger than the second."""
    safe = np.where(np.abs(towards) < 1e-6, np.float32(1e-6), towards)
    middle, spread = -start / safe, 1 / np.abs(safe)
    near, far = middle - spread, middle + spread
    return np.maximum(np.maximum(near[0], near[1]), near[2]), np.minimum(np.minimum(far[0], far[1]), far[2])


def _openness(
    points: np.ndarray, normals: np.ndarray, local: _Local, solids: Collector, room: np.ndarray
) -> Float[np.ndarray, " n"]:
    """Share of the directions that are open at each point; distant obstacles count less."""
    directions = _sphere_directions()
    centre, half = room.mean(axis=0), np.diff(room, axis=0)[0] / 2
    inside = ((points - centre) / half).astype(np.float32).T
    towards = (directions / half).astype(np.float32).T
    # points inside a wall count as closed on all sides
    free = np.clip(_span(inside[:, None], towards[..., None])[1], 0, _REACH)  # (directions, points)
    for (_, rotation, extent), start in zip(solids.boxes, local.points, strict=True):
        near = np.flatnonzero((np.abs(start) < (1 + _REACH / extent)[:, None]).all(axis=0))
        towards = (rotation @ directions.T / extent[:, None]).astype(np.float32)
        enter, leave = _span(start[:, None, near], towards[..., None])
        enter = np.maximum(enter, 0)
        free[:, near] = np.where(leave > enter, np.minimum(free[:, near], enter), free[:, near])
    facing = np.maximum(directions @ normals.T, 0)
    return np.sum(facing * free, axis=0) / _REACH / np.maximum(facing.sum(axis=0), 1e-6)


def _sphere_directions() -> Float[np.ndarray, "d 3"]:
    """Evenly spread directions on the sphere (a Fibonacci spiral)."""
    number = np.arange(_DIRECTIONS) + 0.5
    z, turn = 1 - 2 * number / _DIRECTIONS, number * np.pi * (1 + 5**0.5)
    ring = np.sqrt(1 - z * z)
    return np.stack([ring * np.cos(turn), ring * np.sin(turn), z], axis=-1).astype(np.float32)
