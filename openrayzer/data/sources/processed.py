"""Dataset ``processed``: folders written by process_data.py of LVSM and Open-RayZer."""

from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any

from openrayzer.data.pixels.lens_distortion import Lens
from openrayzer.data.scene_names import read_lines
from openrayzer.data.sources.image_scenes import ImageScene, ImageScenes, PosedFrame, posed_scene
from openrayzer.data.sources.lazy_scenes import nothing_found
from openrayzer.data.stated_cameras import camera_to_world, number
from openrayzer.interfaces import DATASETS, InputError
from openrayzer.machine.plain_files import FileError, Listing, is_file, read_json_object
from openrayzer.machine.remote_paths import RemotePath, list_if_remote

LIST = "full_list.txt"
METADATA = "metadata"
_LONGEST = 3  # last parts of a path that are looked for below another folder: images/<scene>/00000.png


@DATASETS.register("processed")
class Processed(ImageScenes):
    """LVSM's and Open-RayZer's processed folders, read through full_list.txt.

    The paths in these files may come from another machine or start at another folder. A scene that is not at its
    listed path is looked for relative to the folder of the list. Images are always looked for relative to the parent
    of the folder ``metadata``. Frames have the order of the file of their scene.

    Args:
        root: the folder with full_list.txt, or such a list with another name; it may be remote.
        scenes: text file with the names of the scenes to use, one per line; None for all scenes.
        scan_limit: largest number of scenes that opening checks; about 5 ms each.
        follow_links: whether links may lead out of the folder of a scene.
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

    def find(self, problems: list[str]) -> Iterable[tuple[str, Path]]:
        # a web server may deny its folders, or answer for them with a page
        is_list = self.root.suffix if isinstance(self.root, RemotePath) else self.root.is_file()
        path = self.root if is_list else self.root / LIST
        if not is_file(path):
            raise InputError(f"there is no {path}; root must be the folder with {LIST}, or a file of this format")
        for folder in (path.parent, path.parent / METADATA):
            list_if_remote(folder)
        places = []
        for line, number_ in read_lines(path).items():
            place = _find_table(line, path.parent)
            if place is None:
                problems.append(
                    f"{path}, line {number_}: there is no file {line}, and no file of the same name in {path.parent}"
                )
            else:
                places.append((place.stem, place))
        if not places:
            raise nothing_found(f"{path} lists no scene that exists", problems)
        return places

    def load(self, place: Path) -> ImageScene:
        folder = _folder_of(place)
        table = read_json_object(place, root=None if self.follow_links else folder)
        listed = table.get("frames")
        if not isinstance(listed, list) or not listed:
            raise FileError("it lists no frames")
        there = Listing(folder)
        return posed_scene(folder, listed, lambda entry: _frame(entry, there))

    def confines(self, table: ImageScene) -> Path:
        return table.folder


def _find_table(line: str, folder: Path) -> Path | None:
    tails = [Path(*PurePosixPath(line).parts[-count:]) for count in (2, 3, 1)]
    candidates = [folder / line, *(folder / tail for tail in tails if ".." not in tail.parts)]
    return next((path for path in candidates if is_file(path)), None)


def _folder_of(place: Path) -> Path:
    return place.parent.parent if place.parent.name == METADATA else place.parent


def _find_image(stated: Any, there: Listing) -> str:
    """The image of a stated path relative to the folder of the scene: the longest end of the path that exists."""
    if not isinstance(stated, str) or not stated.strip() or "\0" in stated:
        raise FileError(f"its image_path is {stated!r:.60}")
    parts = PurePosixPath(stated.replace("\\", "/")).parts
    if ".." in parts[-_LONGEST:]:
        raise FileError(f"its file name {stated!r:.120} leaves the scene's folder")
    for count in range(min(_LONGEST, len(parts)), 0, -1):
        tail = PurePosixPath(*parts[-count:])
        if not tail.is_absolute() and tail.as_posix() in there:
            return tail.as_posix()
    raise FileError(f"there is no file {stated}, and no {PurePosixPath(*parts[-_LONGEST:])} in {there.scene}")


def _frame(entry: Any, there: Listing) -> PosedFrame:
    if not isinstance(entry, dict):
        raise FileError(f"it is {entry!r:.60}, not an object")
    stated = entry.get("fxfycxcy")
    if not isinstance(stated, list) or len(stated) != 4:
        raise FileError(f"its fxfycxcy is {stated!r:.60}, not 4 numbers")
    fx, fy, cx, cy = (number(value, name) for value, name in zip(stated, ("fx", "fy", "cx", "cy"), strict=True))
    return PosedFrame(
        _find_image(entry.get("image_path"), there), camera_to_world(entry.get("w2c")), Lens((fx, fy, cx, cy))
    )
