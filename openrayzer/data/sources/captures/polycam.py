"""Dataset ``polycam``: raw exports of the app Polycam."""

from collections.abc import Iterable
from pathlib import Path, PurePosixPath

import numpy as np

from openrayzer.data.pixels.lens_distortion import Lens
from openrayzer.data.scene_names import relative_key
from openrayzer.data.sources.captures.capture_folders import CaptureFolders
from openrayzer.data.sources.image_scenes import ImageScene, PosedFrame, find_posed, is_image, posed_scene
from openrayzer.data.sources.lazy_scenes import nothing_found
from openrayzer.data.stated_cameras import OPENGL_TO_OPENCV, image_sides, number, pose_matrix
from openrayzer.interfaces import DATASETS
from openrayzer.machine.plain_files import FileError, Listing, natural_order, read_json_object

KEYFRAMES = "keyframes"
_PLACES = (("corrected_images", "corrected_cameras"), ("images", "cameras"))
_CAMERAS = frozenset(cameras for _, cameras in _PLACES)


@DATASETS.register("polycam")
class Polycam(CaptureFolders):
    """Polycam's raw data: the folder ``keyframes`` with ``images`` and ``cameras``, one JSON file per image.

    The optimised cameras in ``corrected_cameras`` are used if they exist. Images without a camera are missing frames.
    Source of the format: https://github.com/PolyCam/polyform, "Raw data".

    Args:
        root: a scene, or a folder with scenes up to 5 levels below it.
        scenes: text file with the names of the scenes to use, one per line; None for all scenes.
        scan_limit: largest number of scenes that opening checks; checking reads one small file per image.
        follow_links: whether links may lead out of ``root``.
    """

    tables = ()

    def find(self, problems: list[str]) -> Iterable[tuple[str, Path]]:
        what = f"{KEYFRAMES}/cameras"
        scenes = find_posed(self, _has_json, problems, table=what, scene_of=self._scene_of, nested=True)
        found = [scene for scene in scenes if _keyframes(scene)]
        if not found:
            raise nothing_found(f"no scenes: looked for {what} in {self.root} and the folders below it", problems)
        return [(relative_key(scene, self.root), scene) for scene in found]

    def _scene_of(self, folder: Path) -> Path:
        """The scene of a folder of cameras, within the root; another folder itself."""
        inside = folder.relative_to(self.root).parts
        if folder.name in _CAMERAS and inside:
            return folder.parents[1] if inside[:-1] and folder.parent.name == KEYFRAMES else folder.parent
        return folder

    def load(self, place: Path) -> ImageScene:
        folder = _keyframes(place)
        if folder is None:
            raise FileError(f"there is no {KEYFRAMES} with images and cameras")
        there = Listing(folder)
        images, cameras = next(pair for pair in _PLACES if all(map(there.files, pair)))
        names = sorted(filter(is_image, there.files(images)), key=natural_order)

        def read(name: str) -> PosedFrame:
            table = f"{PurePosixPath(name).stem}.json"
            if table not in there.files(cameras):
                raise FileError(f"{images}/{name} has no camera: there is no {cameras}/{table}")
            return _frame(folder, f"{images}/{name}", f"{cameras}/{table}", self.confining)

        return posed_scene(folder, names, read)


def _has_json(files: list[str]) -> bool:
    return any(name.endswith(".json") for name in files)


def _keyframes(scene: Path) -> Path | None:
    """The folder of a scene with images and cameras; None if it has none."""
    for folder in (scene / KEYFRAMES, scene):
        there = Listing(folder)
        if any(all(map(there.files, pair)) for pair in _PLACES):
            return folder
    return None


def _frame(folder: Path, file: str, camera: str, root: Path | None) -> PosedFrame:
    try:
        stated = read_json_object(folder / camera, root=root)
        pose = [[number(stated.get(f"t_{row}{column}"), f"t_{row}{column}") for column in range(4)] for row in range(3)]
        fx, fy, cx, cy = (number(stated.get(name), name) for name in ("fx", "fy", "cx", "cy"))
        size = image_sides(stated.get("height"), stated.get("width"))
    except FileError as error:
        raise FileError(f"{camera}: {error}") from error
    return PosedFrame(file, pose_matrix(np.array(pose)) * OPENGL_TO_OPENCV, Lens((fx, fy, cx, cy), size))
