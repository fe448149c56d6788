"""Dataset ``record3d``: exports of the app Record3D."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from openrayzer.data.pixels.lens_distortion import Lens
from openrayzer.data.sources.captures.capture_folders import CaptureFolders
from openrayzer.data.sources.image_scenes import ImageScene, PosedFrame, is_image, posed_scene
from openrayzer.data.stated_cameras import (
    OPENGL_TO_OPENCV,
    image_sides,
    number,
    pose_of_quaternion,
    times_in_microseconds,
)
from openrayzer.interfaces import DATASETS
from openrayzer.machine.plain_files import FileError, Listing, read_json_object

_TABLES = ("metadata.json", "metadata")
_IMAGES = ("rgb", "rgbd")


@DATASETS.register("record3d")
class Record3d(CaptureFolders):
    """Record3D's exports: metadata.json with ``rgb`` (EXR + RGB), or an unpacked .r3d file (metadata with ``rgbd``).

    Frame i has the image with number i and the i-th pose. Intrinsics are those of each frame if the export has them.

    Args:
        root: a scene, or a folder with scenes up to 6 levels below it.
        scenes: text file with the names of the scenes to use, one per line; None for all scenes.
        scan_limit: largest number of scenes that opening checks.
        follow_links: whether links may lead out of ``root``.
    """

    tables = tuple(frozenset({name}) for name in _TABLES)

    def load(self, place: Path) -> ImageScene:
        there = Listing(place)
        name = next(name for name in _TABLES if name in there)
        table = read_json_object(place / name, root=self.confining)
        poses = table.get("poses")
        if not isinstance(poses, list) or not poses:
            raise FileError(f"{name} has no poses")
        files = _numbered(there)
        scene = posed_scene(place, range(len(poses)), lambda frame: _frame(frame, table, files))
        seconds = table.get("frameTimestamps")
        if not isinstance(seconds, list) or len(seconds) != len(poses):
            return scene
        return replace(scene, times=times_in_microseconds(seconds))


def _numbered(there: Listing) -> dict[int, str]:
    """Image files by their numbers."""
    folder = next((folder for folder in _IMAGES if any(map(is_image, there.files(folder)))), None)
    if folder is None:
        raise FileError(f"there are no images in {' or '.join(_IMAGES)}")
    names = [name for name in sorted(there.files(folder)) if is_image(name)]
    return {int(stem): f"{folder}/{name}" for name in names if (stem := PurePosixPath(name).stem).isdecimal()}


def _frame(frame: int, table: Mapping[str, Any], files: Mapping[int, str]) -> PosedFrame:
    if frame not in files:
        raise FileError(f"there is no image with number {frame}")
    x, y, z, w, *position = _numbers(table["poses"][frame], 7, "pose")
    own = table.get("perFrameIntrinsicCoeffs")
    if isinstance(own, list) and len(own) == len(table["poses"]):
        fx, fy, cx, cy = _numbers(own[frame], 4, "perFrameIntrinsicCoeffs")
    else:
        matrix = _numbers(table.get("K"), 9, "K")  # column after column
        fx, fy, cx, cy = matrix[0], matrix[4], matrix[6], matrix[7]
    lens = Lens((fx, fy, cx, cy), image_sides(table.get("h"), table.get("w")))
    return PosedFrame(files[frame], pose_of_quaternion((w, x, y, z), position) * OPENGL_TO_OPENCV, lens)


def _numbers(value: Any, count: int, what: str) -> list[float]:
    if not isinstance(value, list) or len(value) != count:
        raise FileError(f"its {what} is {value!r:.60}, not {count} numbers")
    return [number(item, what) for item in value]
