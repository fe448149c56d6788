"""The lens and the world frame that a transforms.json states, in the keys of nerfstudio, instant-ngp and Blender."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from openrayzer.data.pixels.lens_distortion import Lens
from openrayzer.data.stated_cameras import image_sides, number, pose_matrix
from openrayzer.machine.plain_files import FileError

_PERSPECTIVE, _FISHEYE = ("k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6"), ("k1", "k2", "k3", "k4")
CAMERA_KEYS = frozenset(
    {
        "w", "h", "fl_x", "fl_y", "cx", "cy", "camera_angle_x", "camera_angle_y", "camera_model", "is_fisheye",
        *_PERSPECTIVE,
    }
)  # fmt: skip
"""Keys of a frame that has a camera of its own."""

_MODELS = {
    "OPENCV": ("opencv", _PERSPECTIVE),
    "FULL_OPENCV": ("opencv", _PERSPECTIVE),
    "PINHOLE": ("opencv", _PERSPECTIVE),
    "SIMPLE_PINHOLE": ("opencv", _PERSPECTIVE),
    "SIMPLE_RADIAL": ("opencv", _PERSPECTIVE),
    "RADIAL": ("opencv", _PERSPECTIVE),
    "PERSPECTIVE": ("opencv", _PERSPECTIVE),
    "OPENCV_FISHEYE": ("fisheye", _FISHEYE),
}


def stated_lens(stated: Mapping[str, Any], stored_size: Callable[[], tuple[int, int]]) -> Lens:
    """The lens in a table or in one of its frames.

    The focal length is ``fl_x`` in pixels or follows from ``camera_angle_x``, the horizontal field of view in radians;
    the same in y. Pixels are square without a value in y. The principal point is the middle by default.

    Args:
        stated: the keys of the table.
        stored_size: height and width of the stated images in pixels; called if the table does not state ``w`` and
            ``h``.

    Raises:
        FileError: a value is missing or wrong, or the camera model is unknown.
    """
    fisheye = stated.get("is_fisheye") or False  # key of instant-ngp
    model = stated.get("camera_model") or ("OPENCV_FISHEYE" if fisheye else "OPENCV")
    if not isinstance(model, str) or model not in _MODELS:
        raise FileError(f"its camera_model is {model!r:.60}; known: {', '.join(sorted(_MODELS))}")
    kind, names = _MODELS[model]
    if fisheye not in (False, True) or (fisheye and kind != "fisheye"):
        raise FileError(f"its is_fisheye is {fisheye!r:.60}, but its camera_model {model}")
    other = next((key for key in stated if key.startswith("ftheta_") or key == "latlong"), None)
    if other is not None:  # the other two lenses of instant-ngp
        raise FileError(f"its lens has the key {other}; only perspective and fisheye lenses can be read")
    if {"w", "h"} & stated.keys():
        height, width = image_sides(stated.get("h"), stated.get("w"))
    else:
        height, width = stored_size()
    fx, fy = _focal(stated, "x", width), _focal(stated, "y", height)
    if fx is None:
        raise FileError("it has no fl_x and no camera_angle_x")
    fy = fx if fy is None else fy
    if not min(fx, fy) > 0:
        raise FileError(f"its focal lengths {fx:g} and {fy:g} are not above 0")
    cx, cy = number(stated.get("cx", width / 2), "cx"), number(stated.get("cy", height / 2), "cy")
    coefficients = [number(stated.get(name, 0.0), name) for name in names]
    return Lens((fx, fy, cx, cy), (height, width), kind, tuple(coefficients))


def _focal(stated: Mapping[str, Any], axis: str, side: int) -> float | None:
    """A focal length in pixels of an image with this side in pixels; None if it is not stated."""
    focal, angle = f"fl_{axis}", f"camera_angle_{axis}"
    if focal in stated:
        return number(stated[focal], focal)
    if angle not in stated:
        return None
    radians = number(stated[angle], angle)
    if not 0 < radians < math.pi:
        raise FileError(f"its {angle} is {radians:g}, not between 0 and pi radians")
    return side / (2 * math.tan(radians / 2))


def original_world(table: Mapping[str, Any]) -> np.ndarray:
    """The rigid motion (4, 4) from the stated world frame to the frame before ``applied_transform``.

    Raises:
        FileError: ``applied_transform`` is not a rigid motion.
    """
    if table.get("applied_transform") is None:
        return np.eye(4)
    applied = pose_matrix(table["applied_transform"])
    if not np.allclose(applied[:3, :3] @ applied[:3, :3].T, np.eye(3), atol=1e-3):
        raise FileError("its applied_transform is not a rigid motion")
    return np.linalg.inv(applied)
