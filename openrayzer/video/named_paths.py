"""Camera paths by name or from a file."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openrayzer.geometry.paths import Pace, interpolate_path, orbit_path, spiral_path, wobble_path
from openrayzer.interfaces import InputError
from openrayzer.types import Cameras
from openrayzer.video.camera_files import read_cameras
from openrayzer.video.placing import CameraPath
from openrayzer.video.views import check_proportions
from registry import did_you_mean

NAMES = ("interpolate", "orbit", "wobble", "spiral")
FRAMES = 120
"""Default number of frames."""
MOST_FRAMES = 1_000_000
"""Nine hours at 30 frames per second; the cameras of longer paths need too much memory."""


@dataclass(frozen=True)
class PathChoice:
    """A camera path and its settings; see ``openrayzer.geometry.paths``.

    Attributes:
        name: one of ``NAMES``, or a JSON file of cameras, see ``camera_files.read_cameras``.
        num_frames: number of frames; None: the number of cameras in the file, else ``FRAMES``. If it differs from the
            number of cameras in the file, the cameras are interpolated.
        loop: True for a path that ends at its first camera.
        pace: pace of an interpolation.
        degrees: angle of an orbit in degrees.
        turns: number of circles of a wobble or spiral; None for the default of the path.
        radius: radius of a wobble or spiral as a share, see the path; None for the default of the path.
    """

    name: str = "interpolate"
    num_frames: int | None = None
    loop: bool = False
    pace: Pace = "views"
    degrees: float = 360.0
    turns: int | None = None
    radius: float | None = None


def named_path(choice: PathChoice, *, image_size: tuple[int, int]) -> CameraPath:
    """Return the chosen path as a function of the cameras of the views.

    Args:
        choice: the path and its settings.
        image_size: height and width of the frames; cameras from a file must have the same aspect ratio.

    Raises:
        InputError: there is no such path or file, or a value is out of range.
    """
    _check(choice)
    num_frames = FRAMES if choice.num_frames is None else choice.num_frames
    stated = {"share": choice.radius, "turns": choice.turns}
    given: dict[str, Any] = {name: value for name, value in stated.items() if value is not None}
    paths: dict[str, CameraPath] = {
        "interpolate": lambda views: interpolate_path(views, num_frames, loop=choice.loop, pace=choice.pace),
        "orbit": lambda views: orbit_path(views, num_frames, arc=math.radians(choice.degrees), loop=choice.loop),
        "wobble": lambda views: wobble_path(views, num_frames, **given),
        "spiral": lambda views: spiral_path(views, num_frames, **given),
    }
    if choice.name in paths:
        return paths[choice.name]
    file = Path(choice.name)
    if file.suffix.lower() != ".json":
        hint = did_you_mean(choice.name, list(NAMES))
        raise InputError(f"--path {choice.name}: there is no such path{hint}, or a .json file of cameras")
    return _from_file(file, choice, image_size)


def _from_file(file: Path, choice: PathChoice, image_size: tuple[int, int]) -> CameraPath:
    table = read_cameras(file)
    check_proportions(file, table.image_size, image_size)
    stored = table.cameras
    if choice.num_frames in (None, stored.num_views) and not choice.loop:
        return lambda views: stored.to(views.c2w.device)
    num_frames = choice.num_frames or stored.num_views

    def through(views: Cameras) -> Cameras:
        return interpolate_path(stored.to(views.c2w.device), num_frames, loop=choice.loop, pace=choice.pace)

    return through


def _check(choice: PathChoice) -> None:
    if choice.num_frames is not None and not 1 <= choice.num_frames <= MOST_FRAMES:
        raise InputError(f"--frames must be from 1 to {MOST_FRAMES}, got {choice.num_frames}")
    if not 0 < choice.degrees <= 360:
        raise InputError(f"--degrees must be above 0 and at most 360, got {choice.degrees:g}")
    if choice.turns is not None and choice.turns < 1:
        raise InputError(f"--turns must be 1 or more, got {choice.turns}")
    if choice.radius is not None and not 0 < choice.radius < math.inf:
        raise InputError(f"--radius must be above 0, got {choice.radius:g}")
