"""Dataset ``images``: folders of images without cameras."""

from collections.abc import Iterable
from pathlib import Path, PurePath

from openrayzer.data.scene_names import relative_key
from openrayzer.data.sources.image_scenes import IMAGE_SUFFIXES, ImageScene, ImageScenes
from openrayzer.data.sources.lazy_scenes import nothing_found
from openrayzer.interfaces import DATASETS
from openrayzer.machine.plain_files import FileError, find_folders, list_folder, require_folder

OTHER_SUFFIXES = frozenset({".heic", ".heif", ".avif", ".tif", ".tiff", ".bmp", ".gif", ".jp2", ".dng"})
"""Types of images that are not read; such a file is a missing frame."""


@DATASETS.register("images")
class Images(ImageScenes):
    """Folders of images without cameras; each folder is one scene, in natural order of the file names.

    JPEG, PNG and WebP files are read and rotated by their EXIF orientation. Grey, transparent and 16-bit images become
    8-bit RGB. Folders inside a folder of images are ignored.

    Args:
        root: a folder of images, or a folder with such folders up to 6 levels below it.
        scenes: text file with the names of the scenes to use, one per line; None for all scenes.
        scan_limit: largest number of scenes that opening checks; checking lists the folder of each scene.
        follow_links: whether links may lead out of ``root``.
    """

    posed = False
    upright = True

    def __init__(
        self,
        *,
        root: Path | str,
        scenes: Path | str | None = None,
        scan_limit: int = 1000,
        follow_links: bool = False,
    ) -> None:
        super().__init__(root=root, scenes=scenes, scan_limit=scan_limit, follow_links=follow_links)

    def find(self, problems: list[str]) -> Iterable[tuple[str, Path]]:
        require_folder(self.root)
        found = [
            (relative_key(folder, self.root), folder)
            for folder in find_folders(self.root, _has_images, follow_links=self.follow_links, problems=problems)
        ]
        if not found:
            suffixes = ", ".join(sorted(IMAGE_SUFFIXES))
            what = f"no images in {self.root} or the folders below it: looked for {suffixes}"
            raise nothing_found(what, problems)
        return found

    def load(self, place: Path) -> ImageScene:
        try:
            files, _ = list_folder(place)
        except OSError as error:
            raise FileError(f"it cannot be listed: {error.strerror or error}") from error
        files = [name for name in files if _suffix(name) in IMAGE_SUFFIXES | OTHER_SUFFIXES]
        faults = {
            frame: f"{name}: images of this type are not supported"
            for frame, name in enumerate(files)
            if _suffix(name) in OTHER_SUFFIXES
        }
        return ImageScene(place, tuple(files), frame_faults=faults)


def _has_images(files: list[str]) -> bool:
    return any(_suffix(name) in IMAGE_SUFFIXES for name in files)


def _suffix(name: str) -> str:
    return PurePath(name).suffix.lower()
