"""Dataset ``images``: folders of images without cameras."""

from collections.abc import Iterable
from pathlib import Path, PurePath

from openrayzer.data.pixels.pillow_decoding import NO_HEIC, has_heic
from openrayzer.data.scene_names import relative_key
from openrayzer.data.sources.image_scenes import IMAGE_SUFFIXES, ImageScene, ImageScenes, is_image
from openrayzer.data.sources.lazy_scenes import nothing_found
from openrayzer.interfaces import DATASETS
from openrayzer.machine.plain_files import FileError, find_folders, list_folder, require_folder

OTHER_SUFFIXES = frozenset({".gif", ".jp2", ".dng"})
"""Types of images that are not read; such a file is a missing frame."""


@DATASETS.register("images")
class Images(ImageScenes):
    """Folders of images without cameras; each folder is one scene, in natural order of the file names.

    JPEG, PNG, WebP, AVIF, TIFF and BMP files are read, and HEIC files with ``pip install 'openrayzer[heic]'``. Images
    are rotated by their EXIF orientation. Grey, transparent and 16-bit images become 8-bit RGB. Folders inside a folder
    of images are ignored.

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
        files = [name for name in files if is_image(name) or _suffix(name) in OTHER_SUFFIXES]
        faults = {frame: f"{name}: {fault}" for frame, name in enumerate(files) if (fault := _fault(name))}
        return ImageScene(place, tuple(files), frame_faults=faults)


def _has_images(files: list[str]) -> bool:
    return any(map(is_image, files))


def _fault(name: str) -> str:
    if _suffix(name) in (".heic", ".heif") and not has_heic():
        return NO_HEIC
    return "images of this type are not supported" if _suffix(name) in OTHER_SUFFIXES else ""


def _suffix(name: str) -> str:
    return PurePath(name).suffix.lower()
