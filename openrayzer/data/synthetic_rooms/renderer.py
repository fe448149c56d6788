"""Renderer of synthetic rooms on the CPU: ray casting with exact visibility, textures, light and antialiasing.

Ray directions have z = 1 along the optical axis, so a ray parameter is a depth. The inverse depth of a plane is an
affine function of the pixel, so each surface costs a few array operations on the rectangle of pixels that it can
cover. A buffer of inverse depths keeps the nearest surface.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float, Int, UInt8

from openrayzer.data.synthetic_rooms.atlas import LEVELS, Atlas
from openrayzer.data.synthetic_rooms.lighting import Lightmap
from openrayzer.data.synthetic_rooms.painting import SIZE
from openrayzer.data.synthetic_rooms.surfaces import CYLINDER, ELLIPSE, RECTANGLE, SPHERE, Surfaces

NEAR = 0.02
"""Smallest depth in metres at which surfaces are drawn; camera paths keep a much larger distance."""
_TINY = np.float32(1e-6)
"""Smallest inverse depth that is inverted; prevents division by 0 where a plane is far away or behind the camera."""
_SLACK = 1.0005
"""Factor by which rectangles are enlarged, so that no ray passes between two faces that share an edge."""


@dataclass(frozen=True)
class Hits:
    """The first hit of each ray.

    Attributes:
        inverse_depth: 1 / depth along the optical axis, in 1 / metres; 0 without a hit.
        surface: number of the surface; -1 without a hit.
        u, v: surface coordinates in [0, 1].
        slant: cosine between the ray and the surface's normal, for flat surfaces; 0.6 for curved ones.
    """

    inverse_depth: Float[np.ndarray, "h w"]
    surface: Int[np.ndarray, "h w"]
    u: Float[np.ndarray, "h w"]
    v: Float[np.ndarray, "h w"]
    slant: Float[np.ndarray, "h w"]


@dataclass(frozen=True)
class _Buffers:
    """The pixels of one picture while surfaces are drawn into it.

    ``x`` and ``y`` are ray directions with z = 1. ``u`` and ``v`` lie in about [-1, 1] here.
    """

    x: np.ndarray
    y: np.ndarray
    inverse_depth: np.ndarray
    surface: np.ndarray
    u: np.ndarray
    v: np.ndarray

    def window(self, rows: slice, columns: slice) -> "_Buffers":
        pixels = (rows, columns)
        return _Buffers(self.x[:, columns], self.y[rows], self.inverse_depth[pixels], self.surface[pixels],
                        self.u[pixels], self.v[pixels])  # fmt: skip

    def keep(self, nearer: np.ndarray, number: int, inverse_depth: np.ndarray, u: np.ndarray, v: np.ndarray) -> None:
        np.copyto(self.inverse_depth, inverse_depth, where=nearer)
        np.copyto(self.u, u, where=nearer)
        np.copyto(self.v, v, where=nearer)
        self.surface[nearer] = number


def trace(
    surfaces: Surfaces, c2w: Float[np.ndarray, "4 4"], intrinsics: Float[np.ndarray, " 4"], *, size: tuple[int, int]
) -> Hits:
    """First hits of the rays through the pixel centres of a picture.

    Args:
        surfaces: all surfaces of the room.
        c2w: camera to world, OpenCV axes.
        intrinsics: fx, fy, cx, cy divided by width, height, width, height.
        size: height and width in pixels.
    """
    height, width = size
    x = (((np.arange(width) + 0.5) / width - intrinsics[2]) / intrinsics[0]).astype(np.float32)[None, :]
    y = (((np.arange(height) + 0.5) / height - intrinsics[3]) / intrinsics[1]).astype(np.float32)[:, None]
    blank = [np.zeros(size, np.float32) for _ in range(3)]
    buffers = _Buffers(x, y, blank[0], np.full(size, -1, np.int32), blank[1], blank[2])

    rotation = c2w[:3, :3].astype(np.float64)
    centres = (surfaces.centre - c2w[:3, 3]) @ rotation
    axes, normals = surfaces.axes @ rotation, surfaces.normal @ rotation
    plane = np.sum(normals * centres, axis=-1)  # distance to the plane of a flat surface; below 0: seen from outside
    flat = surfaces.kind <= ELLIPSE
    rectangles = _rectangles(centres, axes, x, y)
    visible = (~flat | (plane < -1e-6)) & (rectangles[:, 0] < rectangles[:, 1]) & (rectangles[:, 2] < rectangles[:, 3])
    order = np.flatnonzero(visible)
    for number in order[np.argsort(np.linalg.norm(centres[order], axis=-1))]:
        top, bottom, left, right = rectangles[number]
        window = buffers.window(slice(top, bottom), slice(left, right))
        draw = {RECTANGLE: _draw_flat, ELLIPSE: _draw_flat, SPHERE: _draw_sphere, CYLINDER: _draw_cylinder}
        draw[int(surfaces.kind[number])](window, int(number), bool(surfaces.kind[number] == ELLIPSE),
                                         centres[number], axes[number], normals[number])  # fmt: skip
    slant = _slant(buffers, np.where(flat, -plane, 0.0).astype(np.float32))
    u, v = (np.clip(values / 2 + np.float32(0.5), 0, 1) for values in (buffers.u, buffers.v))
    return Hits(buffers.inverse_depth, buffers.surface, u, v, slant)


def shade(
    hits: Hits,
    surfaces: Surfaces,
    atlas: Atlas,
    lightmap: Lightmap,
    *,
    pixel: float,
    gain: Float[np.ndarray, " 3"],
) -> UInt8[np.ndarray, "h w 3"]:
    """RGB colours of hits.

    Args:
        hits: the first hit of each ray.
        surfaces: all surfaces of the room.
        atlas: their textures.
        lightmap: their light.
        pixel: width of a pixel at depth 1 m in metres; it decides the mip level.
        gain: factor on the display values of red, green and blue, before they are clipped.
    """
    number = hits.surface
    repeats = surfaces.repeats.astype(np.float32)
    extent = 2 * np.linalg.norm(surfaces.axes[:, :2], axis=-1)
    extent = np.where((surfaces.kind >= SPHERE)[:, None], extent * [np.pi, np.pi / 2], extent)
    density = (SIZE * repeats / extent).max(axis=-1).astype(np.float32)  # texels per metre
    footprint = density.take(number) * pixel / (hits.inverse_depth * np.sqrt(hits.slant) + 1e-6)
    level = np.clip(np.log2(np.maximum(footprint, 1e-6)) + 0.25, 0, LEVELS - 1).astype(np.int32)
    offset = surfaces.offset.astype(np.float32)
    u = hits.u * repeats[:, 0].take(number) + offset[:, 0].take(number)
    v = hits.v * repeats[:, 1].take(number) + offset[:, 1].take(number)
    tiled = (offset > 0).any(axis=-1).take(number)
    u, v = np.where(tiled, u % 1, u), np.where(tiled, v % 1, v)
    columns, rows = atlas.coordinates(surfaces.texture.take(number), level, u, v)
    albedo = cv2.remap(atlas.picture, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    columns, rows = lightmap.coordinates(number, hits.u, hits.v)
    light = cv2.remap(lightmap.picture, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return cv2.multiply(albedo, light * gain.astype(np.float32), dtype=cv2.CV_8U)


def render(
    surfaces: Surfaces,
    atlas: Atlas,
    lightmap: Lightmap,
    c2w: Float[np.ndarray, "4 4"],
    intrinsics: Float[np.ndarray, " 4"],
    *,
    size: tuple[int, int],
    gain: Float[np.ndarray, " 3"],
    oversampling: int = 2,
) -> UInt8[np.ndarray, "h w 3"]:
    """Render an antialiased RGB picture; each pixel is the mean of ``oversampling`` * ``oversampling`` rays."""
    height, width = size
    fine = (height * oversampling, width * oversampling)
    hits = trace(surfaces, c2w, intrinsics, size=fine)
    picture = shade(hits, surfaces, atlas, lightmap, pixel=1 / (float(intrinsics[0]) * fine[1]), gain=gain)
    return cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)


def _rectangles(centres: np.ndarray, axes: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Pixels that each surface can cover, (n, 4): first row, last row + 1, first column, last column + 1."""
    signs = np.array(np.meshgrid([-1, 1], [-1, 1], [-1, 1])).reshape(3, 8)
    corners = centres[:, None] + np.einsum("sc, nsx -> ncx", signs, axes) * _SLACK
    depth = corners[..., 2]
    behind = depth < NEAR
    partly = behind.any(axis=-1) & ~behind.all(axis=-1)
    projected = corners[..., :2] / np.maximum(depth, NEAR)[..., None]
    low, high = projected.min(axis=1), projected.max(axis=1)
    low[partly], high[partly] = _clipped(corners[partly])
    bounds = np.stack(
        [
            np.searchsorted(y[:, 0], low[:, 1]), np.searchsorted(y[:, 0], high[:, 1], side="right"),
            np.searchsorted(x[0], low[:, 0]), np.searchsorted(x[0], high[:, 0], side="right"),
        ],
        axis=-1,
    )  # fmt: skip
    bounds[behind.all(axis=-1)] = 0
    return bounds


def _clipped(corners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Smallest and largest projection of the parts of boxes (m, 8, 3) that lie in front of the camera."""
    first, second = np.triu_indices(8, 1)
    start, end = corners[:, first], corners[:, second]
    rise = end[..., 2:] - start[..., 2:]
    share = np.clip((NEAR - start[..., 2:]) / np.where(rise == 0, 1, rise), 0, 1)
    points = np.concatenate([corners, start + share * (end - start)], axis=1)
    in_front = points[..., 2:] >= NEAR * 0.999
    projected = points[..., :2] / np.maximum(points[..., 2:], NEAR)
    return np.where(in_front, projected, np.inf).min(axis=1), np.where(in_front, projected, -np.inf).max(axis=1)


def _along(window: _Buffers, vector: np.ndarray) -> np.ndarray:
    """The dot product of every ray direction with ``vector``."""
    a, b, c = vector.astype(np.float32)
    return (a * window.x) + (b * window.y + c)


def _draw_flat(
    window: _Buffers, number: int, rounded: bool, centre: np.ndarray, axes: np.ndarray, normal: np.ndarray
) -> None:
    inverse_depth = _along(window, normal / (normal @ centre))
    nearer = inverse_depth > window.inverse_depth
    if not nearer.any():
        return
    depth = 1 / np.maximum(inverse_depth, _TINY)
    right, down = axes[0] / (axes[0] @ axes[0]), axes[1] / (axes[1] @ axes[1])
    u = depth * _along(window, right) - np.float32(right @ centre)  # -1 .. 1
    v = depth * _along(window, down) - np.float32(down @ centre)
    if rounded:
        nearer &= u * u + v * v <= 1
    else:
        nearer &= np.maximum(np.abs(u), np.abs(v)) <= _SLACK
    window.keep(nearer, number, inverse_depth, u, v)


def _draw_sphere(
    window: _Buffers, number: int, rounded: bool, centre: np.ndarray, axes: np.ndarray, normal: np.ndarray
) -> None:
    radius = np.linalg.norm(axes[2])
    ahead = _along(window, centre)
    square = window.x**2 + window.y**2 + 1
    rest = ahead * ahead - square * np.float32(centre @ centre - radius**2)
    nearest = ahead - np.sqrt(np.maximum(rest, 0))
    inverse_depth = square / np.where(nearest > 0, nearest, np.inf)
    nearer = (rest > 0) & (inverse_depth > window.inverse_depth)
    depth = 1 / np.maximum(inverse_depth, _TINY)
    x, y, z = (depth * _along(window, axis) - np.float32(axis @ centre) for axis in axes / radius**2)
    v = np.arccos(np.clip(z, -1, 1)) / np.float32(np.pi / 2) - 1
    window.keep(nearer, number, inverse_depth, np.arctan2(y, x) / np.float32(np.pi), v)


def _draw_cylinder(
    window: _Buffers, number: int, rounded: bool, centre: np.ndarray, axes: np.ndarray, normal: np.ndarray
) -> None:
    units = axes / np.sum(axes * axes, axis=-1, keepdims=True)
    x, y, z = (_along(window, unit) for unit in units)
    shift = (units @ centre).astype(np.float32)
    square = x * x + y * y
    ahead = x * shift[0] + y * shift[1]
    rest = ahead * ahead - square * (shift[0] ** 2 + shift[1] ** 2 - 1)
    nearest = ahead - np.sqrt(np.maximum(rest, 0))
    inverse_depth = square / np.where(nearest > 0, nearest, np.inf)
    nearer = (rest > 0) & (inverse_depth > window.inverse_depth)
    depth = 1 / np.maximum(inverse_depth, _TINY)
    height = depth * z - shift[2]
    nearer &= np.abs(height) <= 1
    u = np.arctan2(depth * y - shift[1], depth * x - shift[0]) / np.float32(np.pi)
    window.keep(nearer, number, inverse_depth, u, -height)


def _slant(buffers: _Buffers, plane: np.ndarray) -> np.ndarray:
    """Cosine between ray and normal from the distance of the surface's plane; 0.6 where that is 0."""
    length = np.sqrt(buffers.x**2 + buffers.y**2 + 1)
    cosine = plane.take(buffers.surface) * buffers.inverse_depth / length
    return np.where(cosine > 0, np.maximum(cosine, 0.02), 0.6).astype(np.float32)
