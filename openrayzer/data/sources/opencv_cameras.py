"""Dataset ``opencv_cameras``: scenes prepared for Long-LRM and the official RayZer."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from openrayzer.data.pixels.lens_distortion import Lens
from openrayzer.data.scene_names import read_lines, relative_key
from openrayzer.data.sources.image_scenes import ImageScene, ImageScenes, PosedFrame, find_posed, posed_scene
from openrayzer.data.sources.lazy_scenes import nothing_found
from openrayzer.data.stated_cameras import camera_to_world, image_sides, number
from openrayzer.interfaces import DATASETS
from openrayzer.machine.plain_files import (
    FileError,
    Listing,
    inner_name,
    read_json_object,
)

TABLE = "opencv_cameras.json"


@DATASETS.register("opencv_cameras")
class OpencvCameras(ImageScenes):
    """Long-LRM's and the official RayZer's opencv_cameras.json: undistorted images and world-to-camera matrices.

    Frames have the order of the table.

    Args:
        root: a folder with scenes up to 6 levels below it; or a text file with the paths of the tables, one per line,
            relative to its folder.
        scenes: text file with the names of the scenes to use, one per line; None for all scenes.
        scan_limit: largest number of scenes that opening checks; about 5 ms each.
        follow_links: whether links and the lines of a list may lead out of the folder of ``root``.
    """

    posed = True

    def __init__(
        self,
        *,
        root: Path | str,
        scenes: Path | str | None = None,
        scan_limit: int = 256,
        follow_links: bool = False,
    ) -> None:
        super().__init__(root=root, scenes=scenes, scan_limit=scan_limit, follow_links=follow_links)

    @property
    def folder(self) -> Path:
        """The folder that links must not leave."""
        return self.root.parent if self.root.is_file() else self.root

    def find(self, problems: list[str]) -> Iterable[tuple[str, Path]]:
        if self.root.is_file():
            places = list(self._listed(problems))
        else:
            found = find_posed(self, lambda files: TABLE in files, problems, table=TABLE)
            places = [(relative_key(folder, self.root), folder / TABLE) for folder in found]
        if not places:
            raise nothing_found(f"no scenes: looked for {TABLE} in {self.root}", problems)
        return places

    def _listed(self, problems: list[str]) -> Iterable[tuple[str, Path]]:
        for line, number_ in read_lines(self.root).items():
            try:
                name = line if self.follow_links else inner_name(line, self.folder)
            except FileError as error:
                problems.append(f"{self.root}, line {number_}: {error}")
                continue
            place = self.folder / name
            if place.is_file():
                folder = place.parent
                inside = folder.is_relative_to(self.folder)
                yield relative_key(folder, self.folder if inside else folder.parent), place
            else:
                problems.append(f"{self.root}, line {number_}: there is no file {place}")

    def load(self, place: Path) -> ImageScene:
        table = read_json_object(place, root=None if self.follow_links else self.folder)
        listed = table.get("frames")
        if not isinstance(listed, list) or not listed:
            raise FileError("it lists no frames")
        there = Listing(place.parent)
        return posed_scene(place.parent, listed, lambda entry: _frame(entry, there))

    def confines(self, table: ImageScene) -> Path:
        return self.folder


def _frame(entry: Any, there: Listing) -> PosedFrame:
    if not isinstance(entry, dict):
        raise FileError(f"it is {entry!r:.60}, not an object")
    file = inner_name(entry.get("file_path"), there.scene)
    if file not in there:
        raise FileError(f"there is no file {file}")
    fx, fy, cx, cy = (number(entry.get(name), name) for name in ("fx", "fy", "cx", "cy"))
    lens = Lens((fx, fy, cx, cy), image_sides(entry.get("h"), entry.get("w")))
    return PosedFrame(file, camera_to_world(entry.get("w2c")), lens)
