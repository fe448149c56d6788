"""Cameras from the tables of a dataset: reading and checking of poses and sizes, frame by frame."""

from collections.abc import Sequence

import numpy as np

from openrayzer.data.pixels.lens_distortion import Lens
from openrayzer.machine.plain_files import FileError

ROTATION_TOLERANCE = 1e-2
"""Largest deviation of R R^T from the identity. Published chunks stay below 1e-5; skewed or scaled matrices do not."""

OPENGL_TO_OPENCV = np.array([1.0, -1.0, -1.0, 1.0])
"""Signs of the camera axes, the columns of a camera-to-world matrix: OpenGL's y points up, and its z points backwards.
"""

_LAST_ROW = np.array([0.0, 0.0, 0.0, 1.0])


def pose_matrix(value: object) -> np.ndarray:
    """A pose (4, 4) from the nested lists of a table; a (3, 4) matrix gets the row 0, 0, 0, 1.

    Raises:
        FileError: the value has another shape, does not consist of numbers, or its last row is not 0, 0, 0, 1.
    """
    try:
        matrix = np.array(value, np.float64)
    except (ValueError, TypeError, OverflowError) as error:
        raise FileError("its pose is not a matrix of numbers") from error
    if matrix.shape == (3, 4):
        matrix = np.vstack([matrix, _LAST_ROW])
    if matrix.shape != (4, 4):
        raise FileError(f"its pose has shape {matrix.shape}, not (4, 4)")
    if not np.allclose(matrix[3], _LAST_ROW, atol=1e-6) and np.isfinite(matrix[3]).all():
        raise FileError(f"its pose's last row is {matrix[3].tolist()}, not 0, 0, 0, 1")
    return matrix


def camera_to_world(w2c: object) -> np.ndarray:
    """The inverse (4, 4) of a world-to-camera matrix of a table, computed from the transpose of its rotation.

    Raises:
        FileError: see ``pose_matrix``.
    """
    matrix = pose_matrix(w2c)
    c2w = np.eye(4)
    c2w[:3, :3] = matrix[:3, :3].T
    with np.errstate(all="ignore"):
        c2w[:3, 3] = -matrix[:3, :3].T @ matrix[:3, 3]
    return c2w


def pose_of_quaternion(quaternion: Sequence[float], translation: Sequence[float]) -> np.ndarray:
    """The pose (4, 4) with the rotation of a quaternion (w, x, y, z) and a translation.

    Raises:
        FileError: the length of the quaternion is below 0.5 or above 2, or a number is not finite.
    """
    length = np.linalg.norm(quaternion)
    if not 0.5 < length < 2 or not np.isfinite(translation).all():
        raise FileError(f"its pose has the quaternion {list(quaternion)} and the translation {list(translation)}")
    w, x, y, z = np.array(quaternion) / length
    pose = np.eye(4)
    pose[:3, :3] = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    pose[:3, 3] = translation
    return pose


def times_in_microseconds(seconds: Sequence[object]) -> np.ndarray:
    """Times (f,) of frames in microseconds, int64; empty if one of them is not a number."""
    if any(isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e12 for value in seconds):
        return np.zeros(0, np.int64)
    return np.round(np.array(seconds, np.float64) * 1e6).astype(np.int64)


def number(value: object, what: str) -> float:
    """A finite number from a table.

    Raises:
        FileError: the value is missing or not a number; the message calls it ``what``.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < 1e15:
        raise FileError(f"its {what} is {value!r:.60}, not a number" if value is not None else f"it has no {what}")
    return float(value)


def image_sides(height: object, width: object) -> tuple[int, int]:
    """Height and width in pixels from a table.

    Raises:
        FileError: a side is not a positive whole number.
    """
    sides = number(height, "height"), number(width, "width")
    if min(sides) < 1 or any(side != int(side) for side in sides):
        raise FileError(f"its image size is {sides[1]:g} x {sides[0]:g}")
    return int(sides[0]), int(sides[1])


def pose_faults(c2w: np.ndarray, lenses: Sequence[Lens]) -> dict[int, str]:
    """Faults of stated cameras (f, 4, 4), in float64 or after rounding to float32: frame -> fault."""
    rows = np.zeros((len(c2w), 18), np.float64)
    rows[:, :4] = np.array([lens.intrinsics for lens in lenses]).reshape(-1, 4)
    rows[:, 6:] = c2w[:, :3].reshape(-1, 12)
    sides = np.array([lens.size[::-1] * 2 for lens in lenses], np.float64).reshape(-1, 4)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        delivered = np.hstack([rows[:, :4] / np.maximum(sides, 1), rows[:, 4:]]).astype(np.float32)
    rounded = {place: f"{fault} (as float32)" for place, fault in camera_faults(delivered).items()}
    return rounded | camera_faults(rows)


def camera_faults(cameras: np.ndarray) -> dict[int, str]:
    """Faults of cameras given as (v, 18) rows of a chunk: frame -> fault."""
    rotations = cameras[:, 6:].astype(np.float64).reshape(-1, 3, 4)[:, :, :3]
    with np.errstate(invalid="ignore", over="ignore"):
        product = rotations @ rotations.transpose(0, 2, 1)
        skew = np.abs(product - np.eye(3)).max(axis=(1, 2), initial=0)
        finite = np.isfinite(cameras).all(axis=1)
        mirrored = np.linalg.det(np.nan_to_num(rotations, posinf=0, neginf=0)) < 0
        usable = finite & (skew <= ROTATION_TOLERANCE) & ~mirrored & (cameras[:, :2] > 0).all(axis=1)
    faults = {}
    for frame in np.flatnonzero(~usable).tolist():
        if not finite[frame]:
            faults[frame] = "its camera has numbers that are not finite"
        elif not skew[frame] <= ROTATION_TOLERANCE:
            faults[frame] = f"its camera's rotation is off by {skew[frame]:.2g}, more than {ROTATION_TOLERANCE}"
        elif mirrored[frame]:
            faults[frame] = "its camera's rotation is a mirror image"
        else:
            fx, fy = cameras[frame, :2]
            faults[frame] = f"its focal lengths {fx:.3g} and {fy:.3g} are not above 0"
    return faults
