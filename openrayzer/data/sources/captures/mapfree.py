"""Dataset ``mapfree``: Map-free Relocalization, as it is downloaded."""

from collections.abc import Mapping
from pathlib import Path

from openrayzer.data.pixels.lens_distortion import Lens
from openrayzer.data.sources.captures.capture_folders import CaptureFolders
from openrayzer.data.sources.image_scenes import ImageScene, PosedFrame, posed_scene
from openrayzer.data.stated_cameras import camera_to_world, image_sides, number, pose_of_quaternion
from openrayzer.interfaces import DATASETS
from openrayzer.machine.plain_files import FileError, Listing, inner_name, natural_order, read_plain_file

INTRINSICS, POSES = "intrinsics.txt", "poses.txt"


@DATASETS.register("mapfree")
class MapFree(CaptureFolders):
    """Scenes of Map-free Relocalization: both scans of a place, with the poses of poses.txt.

    The frames are the images that intrinsics.txt lists, in natural order: first ``seq0``, then ``seq1``. Frames
    without a pose, such as the query images of the test scenes, are missing frames.
    Source of the format: https://github.com/nianticlabs/map-free-reloc, "Organization".

    Args:
        root: a scene, or a folder with scenes up to 6 levels below it, such as ``train``.
        scenes: text file with the names of the scenes to use, one per line; None for all scenes.
        scan_limit: largest number of scenes that opening checks.
        follow_links: whether links may lead out of ``root``.
    """

    tables = (frozenset({INTRINSICS, POSES}),)

    def load(self, place: Path) -> ImageScene:
        lenses = _rows(place / INTRINSICS, 6, self.confining)
        poses = _rows(place / POSES, 7, self.confining)
        names = sorted(lenses.keys() | poses.keys(), key=natural_order)
        if not names:
            raise FileError(f"{INTRINSICS} lists no frames")
        there = Listing(place)
        return posed_scene(place, names, lambda name: _frame(name, lenses, poses, there))


def _rows(path: Path, count: int, root: Path | None) -> dict[str, list[str]]:
    """The words after the file name of each line, by file name; a line with another number of words has none."""
    try:
        text = read_plain_file(path, root=root).decode("utf-8")
    except (FileError, UnicodeDecodeError) as error:
        raise FileError(f"{path.name}: {error}") from error
    lines = [line.split() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    return {name: words if len(words) == count else [] for name, *words in lines}


def _frame(name: str, lenses: Mapping[str, list[str]], poses: Mapping[str, list[str]], there: Listing) -> PosedFrame:
    file = inner_name(name, there.scene)
    if file not in there:
        raise FileError(f"there is no file {file}")
    fx, fy, cx, cy, width, height = _numbers(name, lenses, INTRINSICS)
    pose = _numbers(name, poses, POSES)
    if not any(pose):
        raise FileError(f"{name} has no pose: {POSES} holds zeros")
    lens = Lens((fx, fy, cx, cy), image_sides(height, width))
    return PosedFrame(file, camera_to_world(pose_of_quaternion(pose[:4], pose[4:])), lens)


def _numbers(name: str, rows: Mapping[str, list[str]], table: str) -> list[float]:
    words = rows.get(name)
    if not words:
        raise FileError(f"{table} has no {'usable ' if words == [] else ''}line for {name}")
    try:
        return [number(float(word), "number") for word in words]
    except ValueError as error:
        raise FileError(f"{table}, {name}: {error}") from error
