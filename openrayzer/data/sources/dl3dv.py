"""Dataset ``dl3dv``: DL3DV as it is downloaded, and any other nerfstudio ``transforms.json``."""

import contextlib
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from openrayzer.data.pixels.lens_distortion import Lens
from openrayzer.data.scene_names import relative_key
from openrayzer.data.sources.image_scenes import NO_LENS, ImageScene, ImageScenes, PosedFrame, posed_scene
from openrayzer.data.sources.lazy_scenes import nothing_found
from openrayzer.data.stated_cameras import image_sides, number, pose_matrix
from openrayzer.interfaces import DATASETS, InputError
from openrayzer.machine.plain_files import (
    FileError,
    Listing,
    find_folders,
    inner_name,
    natural_order,
    read_json_object,
    require_folder,
)

TABLE = "transforms.json"
INNER = "nerfstudio"
"""Inner folder of the scenes of DL3DV's benchmark; it is not part of the scene's name."""

OPENGL_TO_OPENCV = np.array([1.0, -1.0, -1.0, 1.0])
"""Signs of the camera axes: OpenGL's y points up, and its z points backwards."""

_PERSPECTIVE, _FISHEYE = ("k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6"), ("k1", "k2", "k3", "k4")
_CAMERA_KEYS = {"w", "h", "fl_x", "fl_y", "cx", "cy", "camera_angle_x", "camera_model", "is_fisheye", *_PERSPECTIVE}
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


@DATASETS.register("dl3dv")
class Dl3dv(ImageScenes):
    """DL3DV's raw scenes and all other scenes with nerfstudio's transforms.json.

    Lens distortion is removed when a frame is read. The frames are the entries of transforms.json, in natural order of
    their file names. The intrinsics belong to the image size in transforms.json; the images may be smaller. Poses are
    converted from OpenGL's axes to OpenCV's, and from nerfstudio's world frame to the original one if
    ``applied_transform`` states the change.

    Args:
        root: a scene, or a folder with scenes up to 6 levels below it. A scene is a folder with transforms.json.
        reductions: reductions of the images to look for, preferred ones first. For ``images/0001.png`` in
            transforms.json, 4 is ``images_4/0001.png`` and 1 is ``images/0001.png``. The first folder with all images
            is read, or else the folder with most of them.
        scenes: text file with the names of the scenes to use, one per line; None for all scenes.
        scan_limit: largest number of scenes that opening checks; about 5 ms each.
        follow_links: whether links may lead out of ``root``.
    """

    posed = True

    def __init__(
        self,
        *,
        root: Path | str,
        reductions: tuple[int, ...] = (4, 8, 1, 2),
        scenes: Path | str | None = None,
        scan_limit: int = 256,
        follow_links: bool = False,
    ) -> None:
        super().__init__(root=root, scenes=scenes, scan_limit=scan_limit, follow_links=follow_links)
        if not reductions or min(reductions) < 1:
            raise InputError(f"reductions must be whole numbers of 1 or more, got {list(reductions)}")
        self.reductions = reductions

    def find(self, problems: list[str]) -> Iterable[tuple[str, Path]]:
        require_folder(self.root)
        found = find_folders(self.root, lambda files: TABLE in files, follow_links=self.follow_links, problems=problems)
        places = [(relative_key(_named(folder, self.root), self.root), folder / TABLE) for folder in found]
        if not places:
            raise nothing_found(f"no scenes: looked for {TABLE} in {self.root} and the folders below it", problems)
        return places

    def load(self, place: Path) -> ImageScene:
        folder, table = place.parent, read_json_object(place, root=None if self.follow_links else self.root)
        listed = table.pop("frames", None)
        if not isinstance(listed, list) or not listed:
            raise FileError("it lists no frames")
        entries = [entry if isinstance(entry, dict) else {} for entry in listed]
        own = [bool(entry.keys() & _CAMERA_KEYS) for entry in entries]
        shared = NO_LENS if all(own) else _lens(table)
        world, images = _world_from_stated(table), _ImageFolders(folder, self.reductions, entries)

        def read(entry: dict[str, Any]) -> PosedFrame:
            file = images.find(inner_name(entry.get("file_path"), folder))
            lens = _lens(table | entry) if entry.keys() & _CAMERA_KEYS else shared
            return PosedFrame(file, world @ pose_matrix(entry.get("transform_matrix")) * OPENGL_TO_OPENCV, lens)

        return posed_scene(folder, _in_order(entries, folder), read)


def _named(folder: Path, root: Path) -> Path:
    return folder.parent if folder.name == INNER and folder != root else folder


def _in_order(entries: Sequence[dict[str, Any]], folder: Path) -> list[dict[str, Any]]:
    """Entries in natural order of their file names.

    An entry without a usable name stays after its predecessor. Repeated names come last. So such entries do not change
    the numbers of other frames.
    """
    seen: set[str] = set()
    keys, key = [], natural_order("")
    for entry in entries:
        repeated = False
        try:
            name = inner_name(entry.get("file_path"), folder)
            repeated, key = name in seen, natural_order(name)
            seen.add(name)
        except FileError:
            pass  # reading the entry reports the fault
        keys.append((repeated, key))
    order = sorted(range(len(entries)), key=keys.__getitem__)
    return [entries[place] for place in order]


class _ImageFolders:
    """Folders of the images of one scene; all images of one stated folder are read from the same folder.

    Args:
        scene: folder of the scene.
        reductions: possible reductions of the images, preferred ones first.
        entries: the frames that the scene lists.
    """

    def __init__(self, scene: Path, reductions: tuple[int, ...], entries: Iterable[Mapping[str, Any]]) -> None:
        self.reductions, self.there = reductions, Listing(scene)
        self._listed: dict[str, set[str]] = {}  # file names by stated folder
        self._by_stem: dict[str, dict[str, str]] = {}
        self._chosen: dict[str, str] = {}
        for entry in entries:
            with contextlib.suppress(FileError):  # reading the entry reports the fault
                path = PurePosixPath(inner_name(entry.get("file_path"), scene))
                self._listed.setdefault(path.parent.as_posix(), set()).add(path.name)

    def find(self, name: str) -> str:
        """The file for a stated name, relative to the scene; smaller images may have another file type.

        Raises:
            FileError: there is no such file.
        """
        path = PurePosixPath(name)
        folder = self._folder(path.parent.as_posix())
        file = self._file(folder, path.name)
        if not file:
            raise FileError(f"{path.name} is not in {folder}")
        return f"{folder}/{file}"

    def _folder(self, stated: str) -> str:
        """The first folder with all images of a stated folder, or else the folder with most of them."""
        if stated not in self._chosen:
            folders = [stated + (f"_{by}" if by > 1 else "") for by in self.reductions]
            listed, most = self._listed.get(stated, set()), -1
            for folder in filter(self.there.files, folders):
                there = sum(bool(self._file(folder, name)) for name in listed)
                if there > most:
                    self._chosen[stated], most = folder, there
                if there == len(listed):
                    break
            if most < 0:
                raise FileError(
                    f"{stated} does not exist: the scene has none of the folders {', '.join(folders)} with images"
                )
        return self._chosen[stated]

    def _file(self, folder: str, name: str) -> str:
        """Name of a stated image in a folder; empty if the folder does not have it."""
        files = self.there.files(folder)
        if name in files:
            return name
        if folder not in self._by_stem:
            self._by_stem[folder] = {PurePosixPath(file).stem: file for file in sorted(files)}
        stems = self._by_stem[folder]
        return stems.get(PurePosixPath(name).stem) or stems.get(name) or ""  # the scenes of NeRF leave out the suffix


def _lens(stated: Mapping[str, Any]) -> Lens:
    """The lens in a table or in one of its frames."""
    fisheye = stated.get("is_fisheye") or False  # key of instant-ngp
    model = stated.get("camera_model") or ("OPENCV_FISHEYE" if fisheye else "OPENCV")
    if not isinstance(model, str) or model not in _MODELS:
        raise FileError(f"its camera_model is {model!r:.60}; known: {', '.join(sorted(_MODELS))}")
    kind, names = _MODELS[model]
    if fisheye not in (False, True) or (fisheye and kind != "fisheye"):
        raise FileError(f"its is_fisheye is {fisheye!r:.60}, but its camera_model {model}")
    height, width = image_sides(stated.get("h"), stated.get("w"))
    if "camera_angle_x" in stated and not stated.keys() & {"fl_x", "fl_y"}:
        angle = number(stated["camera_angle_x"], "camera_angle_x")
        fx = fy = width / (2 * math.tan(angle / 2)) if 0 < angle < math.pi else 0.0
    else:
        fx, fy = number(stated.get("fl_x"), "fl_x"), number(stated.get("fl_y"), "fl_y")
    if min(fx, fy) <= 0:
        raise FileError(f"its focal lengths {fx:g} and {fy:g} are not above 0")
    cx, cy = number(stated.get("cx", width / 2), "cx"), number(stated.get("cy", height / 2), "cy")
    coefficients = [number(stated.get(name, 0.0), name) for name in names]
    return Lens((fx, fy, cx, cy), (height, width), kind, tuple(coefficients))


def _world_from_stated(table: Mapping[str, Any]) -> np.ndarray:
    """The rigid motion (4, 4) from the stated world frame to the frame before ``applied_transform``."""
    if table.get("applied_transform") is None:
        return np.eye(4)
    applied = pose_matrix(table["applied_transform"])
    if not np.allclose(applied[:3, :3] @ applied[:3, :3].T, np.eye(3), atol=1e-3):
        raise FileError("its applied_transform is not a rigid motion")
    return np.linalg.inv(applied)
