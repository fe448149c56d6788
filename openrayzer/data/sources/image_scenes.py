"""Scenes whose frames are image files on disk."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, TypeVar

import numpy as np

from openrayzer.data.chunk_files.table import camera_faults
from openrayzer.data.pixels.decoding import ImageError, decode_image, image_size
from openrayzer.data.pixels.lens_distortion import Lens, LensError, undistort
from openrayzer.data.pixels.scaled_decoding import wanted_size
from openrayzer.data.sources.lazy_scenes import LazyScenes, SceneTable
from openrayzer.interfaces import Frames
from openrayzer.machine.plain_files import FileError, file_state, read_plain_file

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp"})
LAST_ROW = np.array([0.0, 0.0, 0.0, 1.0])
NO_LENS = Lens((1.0, 1.0, 0.5, 0.5))
"""What a missing frame has instead of a camera."""

Entry = TypeVar("Entry")


@dataclass(frozen=True)
class ImageScene(SceneTable):
    """One scene.

    Attributes:
        folder: what the file names are relative to.
        files: one name per frame, in the order of the original sequence.
        c2w: (f, 4, 4) float64, OpenCV axes; None without cameras. Missing frames have the identity.
        lenses: one per frame; empty without cameras.
        frame_faults: frames that are marked missing, and why.
    """

    folder: Path
    files: tuple[str, ...]
    c2w: np.ndarray | None = None
    lenses: tuple[Lens, ...] = ()
    frame_faults: Mapping[int, str] = field(default_factory=dict)

    @property
    def num_frames(self) -> int:
        """Number of frames, missing ones included."""
        return len(self.files)


class ImageScenes(LazyScenes[ImageScene]):
    """A source of scenes whose frames are image files; subclasses say where they and their cameras are.

    Attributes:
        upright: whether images are turned as their EXIF orientation says.
    """

    upright: ClassVar[bool] = False

    def read(self, scene: int, frames: Sequence[int]) -> Frames:
        return Frames.joined(self.stream(scene, frames))

    def stream(self, scene: int, frames: Sequence[int]) -> Iterator[Frames]:
        table = self.table(scene)
        root = None if self.follow_links else self.confines(table)
        for frame in frames:
            self.check_frame(scene, frame)
            intrinsics = None
            lens = table.lenses[frame] if table.lenses else None
            covering = None if lens is not None and lens.distorts else wanted_size()
            try:
                data = read_plain_file(table.folder / table.files[frame], root=root)
                image = decode_image(data, upright=self.upright, covering=covering)
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
        return (f"{file.absolute()} {self.upright} {bool(table.lenses)}", f"{state} {camera}") if state else ("", "")

    def confines(self, table: ImageScene) -> Path:
        """Folder that links in a scene's folder must not leave."""
        return self.root


@dataclass(frozen=True)
class PosedFrame:
    """One frame of a scene's table: its file, relative to the scene's folder, and its camera."""

    file: str
    c2w: np.ndarray
    lens: Lens


def posed_scene(folder: Path, entries: Sequence[Entry], read: Callable[[Entry], PosedFrame]) -> ImageScene:
    """A scene of the entries of its table, in their order; what ``read`` refuses is marked missing, and so are frames
    without a usable camera and files that were there before.
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
            faults[place] = f"{frame.file} is frame {first[frame.file]}, and listed once more"
    return ImageScene(folder, tuple(files), c2w, tuple(lenses), pose_faults(c2w, lenses) | faults)


def pose_matrix(value: object) -> np.ndarray:
    """A rigid motion (4, 4) from the nested lists of a table; (3, 4) gets its last row.

    Raises:
        FileError: it has another shape, or is not of numbers, or its last row is not 0, 0, 0, 1.
    """
    try:
        matrix = np.array(value, np.float64)
    except (ValueError, TypeError, OverflowError) as error:
        raise FileError("its pose is no matrix of numbers") from error
    if matrix.shape == (3, 4):
        matrix = np.vstack([matrix, LAST_ROW])
    if matrix.shape != (4, 4):
        raise FileError(f"its pose has shape {matrix.shape}, not (4, 4)")
    if not np.allclose(matrix[3], LAST_ROW, atol=1e-6) and np.isfinite(matrix[3]).all():
        raise FileError(f"its pose's last row is {matrix[3].tolist()}, not 0, 0, 0, 1")
    return matrix


def camera_to_world(w2c: object) -> np.ndarray:
    """The inverse (4, 4) of a table's world-to-camera matrix, from the transpose of its rotation.

    Raises:
        FileError: see ``pose_matrix``.
    """
    matrix = pose_matrix(w2c)
    c2w = np.eye(4)
    c2w[:3, :3] = matrix[:3, :3].T
    with np.errstate(all="ignore"):
        c2w[:3, 3] = -matrix[:3, :3].T @ matrix[:3, 3]
    return c2w


def number(value: object, what: str) -> float:
    """A finite number from a table.

    Raises:
        FileError: it is none; the message calls it ``what``.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < 1e15:
        raise FileError(f"its {what} is {value!r:.60}, not a number" if value is not None else f"it has no {what}")
    return float(value)


def image_sides(height: object, width: object) -> tuple[int, int]:
    """Height and width in pixels from a table.

    Raises:
        FileError: they are no positive whole numbers.
    """
    sides = number(height, "height"), number(width, "width")
    if min(sides) < 1 or any(side != int(side) for side in sides):
        raise FileError(f"its image size is {sides[1]:g} x {sides[0]:g}")
    return int(sides[0]), int(sides[1])


def pose_faults(c2w: np.ndarray, lenses: Sequence[Lens]) -> dict[int, str]:
    """Which cameras (f, 4, 4) are none, and why, as stated or in the float32 in which they are read."""
    rows = np.zeros((len(c2w), 18), np.float64)
    rows[:, :4] = np.array([lens.intrinsics for lens in lenses]).reshape(-1, 4)
    rows[:, 6:] = c2w[:, :3].reshape(-1, 12)
    sides = np.array([lens.size[::-1] * 2 for lens in lenses], np.float64).reshape(-1, 4)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        delivered = np.hstack([rows[:, :4] / np.maximum(sides, 1), rows[:, 4:]]).astype(np.float32)
    rounded = {place: f"{fault} (as float32)" for place, fault in camera_faults(delivered).items()}
    return rounded | camera_faults(rows)
