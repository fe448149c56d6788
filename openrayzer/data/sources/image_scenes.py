"""Scenes with frames that are image files on disk."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import ClassVar, TypeVar

import numpy as np

from openrayzer.data.pixels.decoding import ImageError, decode_image, image_size
from openrayzer.data.pixels.lens_distortion import Lens, LensError, undistort
from openrayzer.data.pixels.scaled_decoding import wanted_size
from openrayzer.data.sources.lazy_scenes import LazyScenes, SceneContents
from openrayzer.data.stated_cameras import pose_faults
from openrayzer.interfaces import Frames
from openrayzer.machine.plain_files import FileError, file_state, find_folders, read_plain_files, require_folder

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".heic", ".heif", ".avif", ".tif", ".tiff", ".bmp"})
NO_LENS = Lens((1.0, 1.0, 0.5, 0.5))
"""Lens of missing frames."""

_IMAGES_FOLDER = re.compile(r"(images?|rgb)(_[0-9]+)?")
"""Names of folders inside of a scene that hold its images."""

Entry = TypeVar("Entry")


@dataclass(frozen=True)
class ImageScene(SceneContents):
    """One scene of image files.

    Attributes:
        folder: folder that the file names are relative to.
        files: file name of each frame, in the order of the original sequence.
        c2w: (f, 4, 4) float64, OpenCV axes, identity for missing frames; None without cameras.
        lenses: lens of each frame; empty without cameras.
        frame_faults: number of each missing frame -> its fault.
        times: (f,) int64, microseconds; empty if unknown.
    """

    folder: Path
    files: tuple[str, ...]
    c2w: np.ndarray | None = None
    lenses: tuple[Lens, ...] = ()
    frame_faults: Mapping[int, str] = field(default_factory=dict)
    times: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))

    @property
    def num_frames(self) -> int:
        """Number of frames, including missing frames."""
        return len(self.files)


class ImageScenes(LazyScenes[ImageScene]):
    """A dataset of scenes with image files; a subclass finds the files and their cameras.

    Attributes:
        upright: whether images are rotated by their EXIF orientation.
        behind: grey value, 0 to 255, behind transparent pixels; None ignores transparency.
    """

    upright: ClassVar[bool] = False
    behind: int | None = None

    def read(self, scene: int, frames: Sequence[int]) -> Frames:
        return Frames.joined(self.stream(scene, frames))

    def stream(self, scene: int, frames: Sequence[int]) -> Iterator[Frames]:
        table = self.table(scene)
        root = None if self.follow_links else self.confines(table)
        for frame in frames:
            self.check_frame(scene, frame)
        contents = read_plain_files([table.folder / table.files[frame] for frame in frames], root=root)
        for frame in frames:
            intrinsics = None
            lens = table.lenses[frame] if table.lenses else None
            covering = None if lens is not None and lens.distorts else wanted_size()
            try:
                data = next(contents)
                image = decode_image(data, upright=self.upright, covering=covering, background=self.behind)
                if lens is not None:
                    image, normalised = undistort(image, lens, stored=image_size(data))
                    intrinsics = normalised[None]
            except (FileError, ImageError, LensError) as error:
                raise self.broken(scene, frame, f"{table.files[frame]}: {error}") from error
            c2w = None if table.c2w is None else table.c2w[frame : frame + 1].astype(np.float32)
            yield Frames([image], c2w, intrinsics)

    def version(self, scene: int, frame: int) -> tuple[str, str]:
        self.check_frame(scene, frame)
        table = self.table(scene)
        file = table.folder / table.files[frame]
        camera = "" if table.c2w is None else f"{table.c2w[frame].tolist()} {table.lenses[frame]}"
        state = file_state(file)
        settings = f"{self.upright} {bool(table.lenses)}" + ("" if self.behind is None else f" {self.behind}")
        return (f"{file.absolute()} {settings}", f"{state} {camera}") if state else ("", "")

    def confines(self, table: ImageScene) -> Path:
        """Folder that links in the folder of a scene must not leave."""
        return self.root


def is_image(name: str) -> bool:
    """Whether a file is an image, by the ending of its name."""
    return PurePath(name).suffix.lower() in IMAGE_SUFFIXES


def find_posed(
    dataset: ImageScenes,
    has_table: Callable[[list[str]], bool],
    problems: list[str],
    *,
    table: str,
    scene_of: Callable[[Path], Path] = lambda folder: folder,
    nested: bool = False,
) -> list[Path]:
    """Folders of the scenes of a dataset; the problems get one sentence for each other folder with images.

    Args:
        dataset: the dataset, whose root is searched.
        has_table: whether a folder with these file names holds the cameras of a scene.
        problems: list to extend.
        table: name of the table in the sentences.
        scene_of: the scene of a folder with a table.
        nested: see ``find_folders``.

    Raises:
        InputError: the root is no folder.
    """
    require_folder(dataset.root)
    others: dict[Path, None] = {}

    def note(folder: Path, files: list[str]) -> None:
        if any(map(is_image, files)):
            inner = folder != dataset.root and _IMAGES_FOLDER.fullmatch(folder.name.lower())
            others[folder.parent if inner else folder] = None

    found = find_folders(
        dataset.root, has_table, follow_links=dataset.follow_links, problems=problems, nested=nested, others=note
    )
    scenes = list(dict.fromkeys(map(scene_of, found)))
    known = set(scenes)
    problems += [f"{folder}: images and no {table}" for folder in others if not known & {folder, *folder.parents}]
    return scenes


@dataclass(frozen=True)
class PosedFrame:
    """One frame of a scene: its file relative to the folder of the scene, its camera to world (4, 4) and its lens."""

    file: str
    c2w: np.ndarray
    lens: Lens


def posed_scene(folder: Path, entries: Sequence[Entry], read: Callable[[Entry], PosedFrame]) -> ImageScene:
    """Build a scene from the entries of its table, in their order.

    A frame is marked missing if ``read`` raises a FileError, if its camera is not usable, or if an earlier frame has
    the same file.
    """
    faults: dict[int, str] = {}
    files, c2w, lenses = [""] * len(entries), np.tile(np.eye(4), (len(entries), 1, 1)), [NO_LENS] * len(entries)
    known: dict[Lens, Lens] = {}
    first: dict[str, int] = {}
    for place, entry in enumerate(entries):
        try:
            frame = read(entry)
        except FileError as error:
            faults[place] = str(error)
            continue
        files[place], c2w[place] = frame.file, frame.c2w
        lenses[place] = known.setdefault(frame.lens, frame.lens)
        if first.setdefault(frame.file, place) != place:
            faults[place] = f"{frame.file} is frame {first[frame.file]} and is listed again"
    return ImageScene(folder, tuple(files), c2w, tuple(lenses), pose_faults(c2w, lenses) | faults)
