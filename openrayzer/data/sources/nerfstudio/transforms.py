"""Dataset ``transforms``: scenes with transforms.json, as nerfstudio, instant-ngp, Blender and phone apps write it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from openrayzer.data.chunk_files.format import Origin
from openrayzer.data.pixels.lens_distortion import Lens
from openrayzer.data.scene_names import relative_key
from openrayzer.data.sources.image_scenes import (
    NO_LENS,
    ImageScene,
    ImageScenes,
    PosedFrame,
    find_posed,
    posed_scene,
)
from openrayzer.data.sources.lazy_scenes import nothing_found
from openrayzer.data.sources.nerfstudio.image_folders import ImageFolders
from openrayzer.data.sources.nerfstudio.stated_lenses import CAMERA_KEYS, original_world, stated_lens
from openrayzer.data.stated_cameras import OPENGL_TO_OPENCV, pose_matrix, times_in_microseconds
from openrayzer.interfaces import DATASETS, InputError
from openrayzer.machine.plain_files import FileError, inner_name, natural_order, read_json_object

TABLE = "transforms.json"
INNER = "nerfstudio"
"""Inner folder of the scenes of DL3DV's benchmark; it is not part of the scene's name."""

SPLITS = ("train", "val", "test")
BACKGROUNDS = {"white": 255, "black": 0}
"""Grey values."""


@DATASETS.register("transforms")
class Transforms(ImageScenes):
    """Scenes with transforms.json, or with Blender's transforms_train.json, transforms_val.json, transforms_test.json.

    Lens distortion is removed when a frame is read. The frames are the entries of the table, in natural order of their
    file names; names without ending find their image. Poses are converted from OpenGL's axes to OpenCV's, and from
    nerfstudio's world frame to the original one if ``applied_transform`` states the change. A focal length may be given
    in pixels or by the field of view, for all frames or frame by frame. If the table has no ``w`` and ``h``, the images
    give the size. The times of the frames are those of ``timestamp``, in seconds.

    Args:
        root: a scene, or a folder with scenes up to 6 levels below it.
        split: ``train``, ``val``, ``test`` or another name: the frames of ``transforms_train.json``, or those that
            ``train_filenames`` lists in transforms.json. None takes transforms.json, or else all three splits together.
        background: colour behind transparent pixels.
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
        split: str | None = None,
        background: Literal["white", "black"] = "white",
        reductions: tuple[int, ...] = (1, 2, 4, 8),
        scenes: Path | str | None = None,
        scan_limit: int = 256,
        follow_links: bool = False,
    ) -> None:
        super().__init__(root=root, scenes=scenes, scan_limit=scan_limit, follow_links=follow_links)
        if not reductions or min(reductions) < 1:
            raise InputError(f"reductions must be whole numbers of 1 or more, got {list(reductions)}")
        if split is not None and (not split or set(split) & set("/\\\0")):
            raise InputError(f"split must be a name such as train, got {split!r}")
        if background not in BACKGROUNDS:
            raise InputError(f"background must be white or black, got {background!r}")
        self.split, self.reductions, self.behind = split, reductions, BACKGROUNDS[background]

    def find(self, problems: list[str]) -> Iterable[tuple[str, Path]]:
        splits = SPLITS if self.split is None else (*SPLITS, self.split)
        names = [TABLE, *(f"transforms_{split}.json" for split in splits)]
        found = find_posed(self, lambda files: any(name in files for name in names), problems, table=TABLE)
        places = [(relative_key(_named(folder, self.root), self.root), _first(folder, names)) for folder in found]
        if not places:
            raise nothing_found(f"no scenes: looked for {TABLE} in {self.root} and the folders below it", problems)
        return places

    def load(self, place: Path) -> ImageScene:
        folder, root = place.parent, None if self.follow_links else self.root
        return scene_of_tables(folder, _tables(folder, self.split, root), self.reductions, root)

    def origin(self, scene: int) -> Origin:
        """The times of the frames in microseconds; none if a frame has no ``timestamp``."""
        return Origin("", self.table(scene).times)


def scene_of_tables(
    folder: Path, tables: Sequence[Mapping[str, Any]], reductions: tuple[int, ...], root: Path | None
) -> ImageScene:
    """The scene of one or more tables, whose frames are put together.

    Args:
        folder: folder that the file names in the tables are relative to.
        tables: contents of the tables.
        reductions: see ``Transforms``.
        root: folder that links must not leave; None for any place.

    Raises:
        FileError: the tables list no frames, or a value that concerns all frames is wrong.
    """
    entries = [(table, _entry(listed)) for table in tables for listed in _listed(table)]
    images = ImageFolders(folder, reductions, (entry.get("file_path") for _, entry in entries), root)
    shared = {id(table): _shared(table, images) for table in tables}

    def read(pair: tuple[Mapping[str, Any], dict[str, Any]]) -> PosedFrame:
        table, entry = pair
        name = inner_name(entry.get("file_path"), folder)
        file = images.find(name)
        if entry.get("is_bad") is True:  # key of ScanNet++
            raise FileError(f"{name} is marked as bad by the data set")
        lens, world = shared[id(table)]
        if entry.keys() & CAMERA_KEYS:
            lens = stated_lens({**table, **entry}, lambda: images.size_of(name))
        return PosedFrame(file, world @ pose_matrix(entry.get("transform_matrix")) * OPENGL_TO_OPENCV, lens)

    ordered = _in_order(entries, folder)
    return replace(
        posed_scene(folder, ordered, read),
        times=times_in_microseconds([entry.get("timestamp") for _, entry in ordered]),
    )


def _named(folder: Path, root: Path) -> Path:
    return folder.parent if folder.name == INNER and folder != root else folder


def _first(folder: Path, names: Iterable[str]) -> Path:
    return next(folder / name for name in names if (folder / name).exists())


def _tables(folder: Path, split: str | None, root: Path | None) -> list[dict[str, Any]]:
    """The tables of a scene; of transforms.json only the frames of the split."""
    whole = folder / TABLE
    if split is None and whole.exists():
        return [read_json_object(whole, root=root)]
    paths = [folder / f"transforms_{name}.json" for name in (SPLITS if split is None else (split,))]
    there = [path for path in paths if path.exists()]
    if there:
        return [read_json_object(path, root=root) for path in there]
    names = None
    if whole.exists():
        table = read_json_object(whole, root=root)
        names = table.get(f"{split}_filenames")
    if not isinstance(names, list):
        raise FileError(f"it has no split {split!r}: neither {split}_filenames in {TABLE} nor {paths[0].name}")
    chosen = [entry for entry in _listed(table) if _entry(entry).get("file_path") in names]
    return [table | {"frames": chosen}]


def _listed(table: Mapping[str, Any]) -> list[Any]:
    listed = table.get("frames")
    if not isinstance(listed, list) or not listed:
        raise FileError("it lists no frames")
    return listed


def _entry(listed: Any) -> dict[str, Any]:
    return listed if isinstance(listed, dict) else {}


def _shared(table: Mapping[str, Any], images: ImageFolders) -> tuple[Lens, np.ndarray]:
    """Lens and world frame of all frames of a table without a camera of their own."""
    own = all(_entry(listed).keys() & CAMERA_KEYS for listed in _listed(table))
    return NO_LENS if own else stated_lens(table, images.common_size), original_world(table)


def _in_order(
    entries: Sequence[tuple[Mapping[str, Any], dict[str, Any]]], folder: Path
) -> list[tuple[Mapping[str, Any], dict[str, Any]]]:
    """Entries in natural order of their file names.

    An entry without a usable name stays after its predecessor. Repeated names come last. So such entries do not change
    the numbers of other frames.
    """
    seen: set[str] = set()
    keys, key = [], natural_order("")
    for _, entry in entries:
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
