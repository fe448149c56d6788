"""Where the images of a scene lie that its table states, in full size or in a folder of smaller images."""

import contextlib
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any

from openrayzer.data.pixels.decoding import ImageError, image_size
from openrayzer.data.sources.image_scenes import is_image
from openrayzer.machine.plain_files import FileError, Listing, inner_name, read_plain_file


class ImageFolders:
    """Folders of the images of one scene; all images of one stated folder are read from the same folder.

    Args:
        scene: folder of the scene.
        reductions: possible reductions of the images, preferred ones first: 4 is the folder ``images_4``.
        names: stated names of the images, relative to the scene; unusable ones are ignored.
        root: folder that images must lie in after links are followed; None for any place.
    """

    def __init__(self, scene: Path, reductions: tuple[int, ...], names: Iterable[Any], root: Path | None) -> None:
        self.scene, self.reductions, self.root, self.there = scene, reductions, root, Listing(scene)
        self._listed: dict[str, set[str]] = {}  # file names by stated folder
        self._by_stem: dict[str, dict[str, str]] = {}
        self._chosen: dict[str, tuple[str, int]] = {}
        self._size: tuple[int, int] | None = None
        for name in names:
            with contextlib.suppress(FileError):  # finding the image reports the fault
                path = PurePosixPath(inner_name(name, scene))
                self._listed.setdefault(path.parent.as_posix(), set()).add(path.name)

    def find(self, name: str) -> str:
        """The file for a stated name, relative to the scene; it may have another ending than the stated one.

        Raises:
            FileError: there is no such file.
        """
        path = PurePosixPath(name)
        folder, _ = self._folder(path.parent.as_posix())
        file = self._file(folder, path.name)
        if not file:
            raise FileError(f"{path.name} is not in {folder}")
        return f"{folder}/{file}"

    def size_of(self, name: str) -> tuple[int, int]:
        """Height and width of a stated image in pixels: those of its file times the reduction of its folder.

        Raises:
            FileError: there is no such file, or it is not a usable image.
        """
        file = self.find(name)
        _, reduction = self._folder(PurePosixPath(name).parent.as_posix())
        try:
            height, width = image_size(read_plain_file(self.scene / file, root=self.root))
        except ImageError as error:
            raise FileError(f"{file}: {error}") from error
        return height * reduction, width * reduction

    def common_size(self) -> tuple[int, int]:
        """Height and width of the stated images in pixels, from the first usable one.

        Raises:
            FileError: no image is usable.
        """
        if self._size is None:
            fault = None
            for folder, names in self._listed.items():
                for name in sorted(names):
                    try:
                        self._size = self.size_of(f"{folder}/{name}")
                        return self._size
                    except FileError as error:
                        fault = fault or error
            raise FileError(f"it has no w and h, and no image gives the size: {fault or 'it states no images'}")
        return self._size

    def _folder(self, stated: str) -> tuple[str, int]:
        """The first folder with all images of a stated folder, or else the folder with most of them; its reduction."""
        if stated not in self._chosen:
            folders = {stated + (f"_{by}" if by > 1 else ""): by for by in self.reductions}
            listed, most = self._listed.get(stated, set()), -1
            for folder in filter(self.there.files, folders):
                there = sum(bool(self._file(folder, name)) for name in listed)
                if there > most:
                    self._chosen[stated], most = (folder, folders[folder]), there
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
        if name in files and is_image(name):
            return name
        if folder not in self._by_stem:
            self._by_stem[folder] = {PurePosixPath(file).stem: file for file in sorted(files) if is_image(file)}
        stems = self._by_stem[folder]
        return stems.get(name) or stems.get(PurePosixPath(name).stem) or ""  # Blender's scenes leave out the ending
