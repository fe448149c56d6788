"""Dataset ``scannetpp``: the DSLR images of ScanNet++, as they are downloaded."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from openrayzer.data.scene_names import relative_key
from openrayzer.data.sources.image_scenes import ImageScene, ImageScenes, find_posed
from openrayzer.data.sources.lazy_scenes import nothing_found
from openrayzer.data.sources.nerfstudio.transforms import INNER, scene_of_tables
from openrayzer.interfaces import DATASETS, InputError
from openrayzer.machine.plain_files import FileError, read_json_object

DSLR = "dslr"
_LISTS = {"train": ("frames",), "test": ("test_frames",), None: ("frames", "test_frames")}


@DATASETS.register("scannetpp")
class ScanNetPlusPlus(ImageScenes):
    """ScanNet++: the fisheye images in ``dslr/resized_images``, with the cameras of ``dslr/nerfstudio``.

    The fisheye distortion is removed when a frame is read. Frames that the data set marks as bad are missing frames.

    Args:
        root: a scene, or a folder with scenes up to 4 levels below it, such as ``data``.
        split: ``train``, ``test``, or None for both: the training views and the held-out views of each scene.
        undistorted: read ``dslr/resized_undistorted_images`` and transforms_undistorted.json, which the toolkit of
            ScanNet++ makes.
        scenes: text file with the names of the scenes to use, one per line; None for all scenes.
        scan_limit: largest number of scenes that opening checks; about 5 ms each.
        follow_links: whether links may lead out of ``root``.
    """

    posed = True

    def __init__(
        self,
        *,
        root: Path | str,
        split: str | None = None,
        undistorted: bool = False,
        scenes: Path | str | None = None,
        scan_limit: int = 256,
        follow_links: bool = False,
    ) -> None:
        super().__init__(root=root, scenes=scenes, scan_limit=scan_limit, follow_links=follow_links)
        if split not in _LISTS:
            raise InputError(f"split must be train, test or null, got {split!r}")
        self.split = split
        self.table_name = "transforms_undistorted.json" if undistorted else "transforms.json"
        self.images = "resized_undistorted_images" if undistorted else "resized_images"

    def find(self, problems: list[str]) -> Iterable[tuple[str, Path]]:
        what = f"{DSLR}/{INNER}/{self.table_name}"
        scenes = find_posed(self, lambda files: self.table_name in files, problems, table=what, scene_of=self._scene_of)
        places = [(relative_key(scene, self.root), scene) for scene in scenes]
        if not places:
            raise nothing_found(f"no scenes: looked for {what} in {self.root} and the folders below it", problems)
        return places

    def _scene_of(self, folder: Path) -> Path:
        """The folder above ``dslr/nerfstudio``, within the root."""
        for _ in range(2):
            folder = folder if folder == self.root else folder.parent
        return folder

    def load(self, place: Path) -> ImageScene:
        folder = place / DSLR if (place / DSLR).is_dir() else place
        root = None if self.follow_links else self.root
        table = read_json_object(folder / INNER / self.table_name, root=root)
        lists = [table.get(name) for name in _LISTS[self.split]]
        listed = [entry for entries in lists if isinstance(entries, list) for entry in entries]
        if not listed:
            raise FileError(f"{self.table_name} lists no {' and no '.join(_LISTS[self.split])}")
        frames = [self._inside(entry) for entry in listed]
        return scene_of_tables(folder, [table | {"frames": frames}], (1,), root)

    def _inside(self, entry: Any) -> Any:
        """An entry whose file name is relative to ``dslr``."""
        if not isinstance(entry, dict) or not isinstance(entry.get("file_path"), str):
            return entry
        return entry | {"file_path": f"{self.images}/{entry['file_path']}"}
