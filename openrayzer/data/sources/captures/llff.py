"""Dataset ``llff``: scenes with poses_bounds.npy, as LLFF and NeRF use them."""

from io import BytesIO
from pathlib import Path

import numpy as np

from openrayzer.data.pixels.lens_distortion import Lens
from openrayzer.data.sources.captures.capture_folders import CaptureFolders
from openrayzer.data.sources.image_scenes import ImageScene, PosedFrame, is_image, posed_scene
from openrayzer.data.stated_cameras import image_sides, number, pose_matrix
from openrayzer.interfaces import DATASETS, InputError
from openrayzer.machine.plain_files import FileError, Listing, read_plain_file

TABLE = "poses_bounds.npy"
_NUMBERS = 17  # per camera: a matrix (3, 5), the smallest and the largest depth
_LLFF_TO_OPENCV = np.array([[0, 1, 0], [1, 0, 0], [0, 0, -1]], np.float64)
"""LLFF's axes are down, right, backwards; the columns of this matrix are OpenCV's axes in them."""


@DATASETS.register("llff")
class Llff(CaptureFolders):
    """LLFF's scenes: poses_bounds.npy, whose cameras belong to the images in plain (not natural) order of their names.

    Source of the format: https://github.com/Fyusion/LLFF, "Using your own poses without running COLMAP".

    Args:
        root: a scene, or a folder with scenes up to 6 levels below it.
        reductions: reductions of the images to look for, preferred ones first: 4 is the folder ``images_4``, and 1 is
            ``images``. The first folder with as many images as there are cameras is read.
        scenes: text file with the names of the scenes to use, one per line; None for all scenes.
        scan_limit: largest number of scenes that opening checks.
        follow_links: whether links may lead out of ``root``.
    """

    tables = (frozenset({TABLE}),)

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

    def load(self, place: Path) -> ImageScene:
        cameras = _cameras(read_plain_file(place / TABLE, root=self.confining))
        files = self._files(Listing(place), len(cameras))
        return posed_scene(place, list(zip(files, cameras, strict=True)), lambda entry: _frame(*entry))

    def _files(self, there: Listing, count: int) -> list[str]:
        folders = [f"images_{by}" if by > 1 else "images" for by in self.reductions]
        found = {folder: sorted(filter(is_image, there.files(folder))) for folder in folders}
        for folder, names in found.items():
            if len(names) == count:
                return [f"{folder}/{name}" for name in names]
        counts = ", ".join(f"{folder} has {len(names)}" for folder, names in found.items())
        raise FileError(f"{TABLE} has {count} cameras, but no folder has as many images: {counts}")


def _cameras(content: bytes) -> np.ndarray:
    """The rows (n, 17) of a table."""
    try:
        rows = np.load(BytesIO(content), allow_pickle=False)
    except (ValueError, EOFError, OSError, SyntaxError, MemoryError) as error:
        raise FileError(f"{TABLE} is not an array of NumPy: {error}") from error
    if not isinstance(rows, np.ndarray) or rows.ndim != 2 or rows.shape[1] != _NUMBERS or not len(rows):
        raise FileError(f"{TABLE} has shape {list(np.shape(rows))}, not [n, {_NUMBERS}]")
    if rows.dtype.kind not in "fiu":
        raise FileError(f"{TABLE} holds {rows.dtype}, not numbers")
    return rows.astype(np.float64)


def _frame(file: str, row: np.ndarray) -> PosedFrame:
    matrix = row[:15].reshape(3, 5)
    height, width, focal = (number(float(value), name) for value, name in zip(matrix[:, 4], _SIDES, strict=True))
    c2w = pose_matrix(np.hstack([matrix[:, :3] @ _LLFF_TO_OPENCV, matrix[:, 3:4]]))
    return PosedFrame(file, c2w, Lens((focal, focal, width / 2, height / 2), image_sides(height, width)))


_SIDES = ("height", "width", "focal length")
