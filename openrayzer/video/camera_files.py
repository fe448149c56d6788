"""Read and write camera files: our own JSON, COLMAP's text model, nerfstudio's transforms.json.

COLMAP's and nerfstudio's forms are complete folders: they hold the images as the model saw them, resized and cropped,
because the intrinsics are those of these images.
"""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from openrayzer.data.pixels.resizing import to_bytes
from openrayzer.data.stated_cameras import camera_faults, pose_matrix
from openrayzer.geometry.intrinsics import to_pixels
from openrayzer.geometry.poses import invert
from openrayzer.geometry.rotations import quaternion_from_rotation
from openrayzer.interfaces import InputError
from openrayzer.machine.plain_files import FileError, read_json_object
from openrayzer.machine.writing import check_writable, refuse_filled, unwritable, whole_file, whole_folder
from openrayzer.types import Cameras

FORMAT = "openrayzer cameras"
NERFSTUDIO = "transforms.json"
CONVENTIONS = {
    "c2w": "camera to world, 4 x 4, row by row; OpenCV axes: x right, y down, z forward",
    "intrinsics": "fx, fy, cx, cy divided by image width, height, width, height",
    "intrinsics_pixels": "fx, fy, cx, cy in pixels of image_size; pixel centres at +0.5",
    "image_size": "height, width",
    "world": "the frame and unit in which the model renders: its own choice, or true poses normalised as in training",
}
_OPENGL = torch.tensor([1.0, -1.0, -1.0, 1.0], dtype=torch.float64)
"""Signs of the columns of c2w that convert OpenCV axes to OpenGL axes (y up, z backwards)."""


@dataclass(frozen=True)
class CameraTable:
    """Cameras from a file in our own form.

    Attributes:
        cameras: n cameras, (1, n).
        images: file name of the image of each camera; None for a camera without an image.
        image_size: height and width of the images; None if the file does not state it. The normalised intrinsics hold
            for all sizes with the same aspect ratio.
    """

    cameras: Cameras
    images: tuple[str | None, ...]
    image_size: tuple[int, int] | None


def check_export(path: str | Path) -> None:
    """Check that ``export_cameras`` can write to ``path``.

    Raises:
        InputError: the folder is not empty, or the file cannot be written.
    """
    path = Path(path)
    if path.name == NERFSTUDIO:
        refuse_filled(path.parent / "images", option="--export_cameras")
    elif path.suffix.lower() != ".json":
        refuse_filled(path, option="--export_cameras")
    if path.suffix.lower() == ".json":
        check_writable(path)


def check_exports(paths: Sequence[str | Path]) -> None:
    """Check that ``export_cameras`` can write to each of ``paths``, and that no two of them share a folder.

    Raises:
        InputError: see ``check_export``, or two outputs share a folder.
    """
    exports = [Path(path) for path in paths]
    places = [(path.parent / "images" if path.name == NERFSTUDIO else path).resolve() for path in exports]
    for path, place in zip(exports, places, strict=True):
        check_export(path)
        for other, folder in zip(exports, places, strict=True):
            if other is not path and folder in (place, *place.parents):
                raise InputError(f"--export_cameras {path} and {other} would share a folder; give each its own")


def export_cameras(
    path: str | Path,
    cameras: Cameras,
    *,
    names: Sequence[str],
    images: Float[Tensor, "1 v 3 h w"],
    points: tuple[Float[Tensor, "n 3"], UInt8[Tensor, "n 3"]] | None = None,
) -> None:
    """Write cameras, (1, v); the name of ``path`` sets the form.

    Args:
        path: ``FOLDER/transforms.json`` for nerfstudio's form; another .json file for our own form; else a folder for
            COLMAP's form. The folder of the images must not exist or be empty.
        cameras: cameras of the views.
        names: file names of the views, without duplicates.
        images: the views, in [0, 1].
        points: positions and RGB colours of points for COLMAP's form; None for no points.

    Raises:
        InputError: the cameras cannot be written, or a folder is not empty.
    """
    path = Path(path)
    check_export(path)
    height, width = int(images.shape[3]), int(images.shape[4])
    if path.suffix.lower() == ".json" and path.name != NERFSTUDIO:
        write_cameras(path, cameras, image_size=(height, width), names=names)
        return
    files = [f"{Path(name).stem}.png" for name in names]
    files = files if len(set(files)) == len(files) else [f"{name}.png" for name in names]
    if path.name == NERFSTUDIO:
        with whole_folder(path.parent / "images", option="--export_cameras") as folder:
            _write_images(folder, files, images)
        _write_json(path, nerfstudio_table(cameras, (height, width), [f"images/{file}" for file in files]))
        return
    with whole_folder(path, option="--export_cameras") as folder:
        (folder / "images").mkdir()
        _write_images(folder / "images", files, images)
        (folder / "sparse/0").mkdir(parents=True)
        texts = colmap_texts(cameras, (height, width), files)
        if points is not None:
            texts["points3D.txt"] += colmap_points(*points)
        for name, text in texts.items():
            (folder / "sparse/0" / name).write_text(text, encoding="utf-8")


def write_cameras(
    path: str | Path, cameras: Cameras, *, image_size: tuple[int, int], names: Sequence[str] | None = None
) -> None:
    """Write cameras, (1, n), of views or of a path as JSON in our own form; ``read_cameras`` reads it.

    Args:
        path: the file.
        cameras: the cameras.
        image_size: height and width of the images in pixels.
        names: file names of the images; None for cameras without images.

    Raises:
        InputError: the file cannot be written.
    """
    pixels = to_pixels(cameras.intrinsics.double(), image_size)[0].tolist()
    rows = zip(cameras.c2w[0].double().tolist(), cameras.intrinsics[0].double().tolist(), pixels, strict=True)
    entries: list[dict[str, Any]] = [{"c2w": c, "intrinsics": i, "intrinsics_pixels": p} for c, i, p in rows]
    if names is not None:
        entries = [{"image": name} | entry for name, entry in zip(names, entries, strict=True)]
    content = {"format": FORMAT, "version": 1, "conventions": CONVENTIONS, "image_size": list(image_size)}
    _write_json(Path(path), content | {"cameras": entries})


def read_cameras(path: str | Path) -> CameraTable:
    """Read cameras in our own form, from ``write_cameras`` or written by hand.

    Only ``c2w`` and ``intrinsics`` of each camera are required.

    Raises:
        InputError: the file cannot be read, or a camera is invalid.
    """
    path = Path(path)
    try:
        content = read_json_object(path, root=None)
        listed = content.get("cameras")
        if not isinstance(listed, list) or not listed:
            raise FileError('it has no list "cameras"')
        c2w, intrinsics = zip(*map(_camera, range(len(listed)), listed), strict=True)
        images = tuple(entry.get("image") if isinstance(entry.get("image"), str) else None for entry in listed)
        repeated = [name for name, count in Counter(images).items() if name is not None and count > 1]
        if repeated:
            raise FileError(f"it has more than one camera for the image {repeated[0]!r}")
        size = content.get("image_size")
        if size is not None and not (
            isinstance(size, list) and len(size) == 2 and all(isinstance(side, int) and side > 0 for side in size)
        ):
            raise FileError(f'its "image_size" is {size!r:.60}, not [height, width]')
    except FileError as error:
        raise InputError(f"{path}: {error}") from error
    cameras = Cameras(torch.tensor(np.stack(c2w))[None].float(), torch.tensor(np.stack(intrinsics))[None].float())
    return CameraTable(cameras, images, None if size is None else (size[0], size[1]))


def _camera(place: int, entry: Any) -> tuple[np.ndarray, np.ndarray]:
    if not isinstance(entry, dict):
        raise FileError(f"camera {place}: it is {entry!r:.60}, not an object")
    try:
        c2w = pose_matrix(entry.get("c2w"))
        intrinsics = np.array(entry.get("intrinsics"), np.float64)
    except (ValueError, TypeError) as error:
        raise FileError(f"camera {place}: {error}") from error
    if intrinsics.shape != (4,):
        raise FileError(f'camera {place}: its "intrinsics" are not four numbers fx, fy, cx, cy')
    row = np.concatenate([intrinsics, [0, 0], c2w[:3].ravel()])
    for fault in camera_faults(row[None]).values():
        raise FileError(f"camera {place}: {fault}")
    return c2w, intrinsics


def colmap_texts(cameras: Cameras, image_size: tuple[int, int], names: Sequence[str]) -> dict[str, str]:
    """Return the files of COLMAP's text model for cameras, (1, v), as name -> content. The list of points is empty.

    Source of the format: https://colmap.github.io/format.html.
    """
    height, width = image_size
    w2c = invert(cameras.c2w[0].double())
    quaternions = quaternion_from_rotation(w2c[:, :3, :3]).tolist()
    translations = w2c[:, :3, 3].tolist()
    pixels = [tuple(row) for row in to_pixels(cameras.intrinsics[0].double(), image_size).tolist()]
    numbers = {row: number for number, row in enumerate(dict.fromkeys(pixels), 1)}
    lines = ["# CAMERA_ID, MODEL, WIDTH, HEIGHT, PARAMS[] (fx, fy, cx, cy)"]
    lines += [f"{number} PINHOLE {width} {height} {_numbers(row)}" for row, number in numbers.items()]
    images = ["# IMAGE_ID, QW, QX, QY, QZ, TX, TY, TZ, CAMERA_ID, NAME", "# POINTS2D[] as (X, Y, POINT3D_ID)"]
    for place, name in enumerate(names):
        pose = _numbers([*quaternions[place], *translations[place]])
        images += [f"{place + 1} {pose} {numbers[pixels[place]]} {name}", ""]
    points = ["# POINT3D_ID, X, Y, Z, R, G, B, ERROR, TRACK[] as (IMAGE_ID, POINT2D_IDX)"]
    tables = {"cameras.txt": lines, "images.txt": images, "points3D.txt": points}
    return {name: "\n".join(table) + "\n" for name, table in tables.items()}


def colmap_points(positions: Float[Tensor, "n 3"], colours: UInt8[Tensor, "n 3"]) -> str:
    """Return the lines of points for COLMAP's points3D.txt, with an error of 0 and without tracks."""
    rows = zip(positions.tolist(), colours.tolist(), strict=True)
    return "".join(
        f"{number} {_numbers(place)} {_numbers(colour)} 0\n" for number, (place, colour) in enumerate(rows, 1)
    )


def nerfstudio_table(cameras: Cameras, image_size: tuple[int, int], names: Sequence[str]) -> dict[str, Any]:
    """Return the content of a transforms.json for cameras, (1, v): OpenGL axes, one pinhole camera per frame.

    Source of the format: https://docs.nerf.studio/quickstart/data_conventions.html.
    """
    height, width = image_size
    matrices = (cameras.c2w[0].double().cpu() * _OPENGL).tolist()
    pixels = to_pixels(cameras.intrinsics[0].double(), image_size).tolist()
    frames = [
        {"file_path": name, "fl_x": fx, "fl_y": fy, "cx": cx, "cy": cy, "transform_matrix": matrix}
        for name, (fx, fy, cx, cy), matrix in zip(names, pixels, matrices, strict=True)
    ]
    return {"camera_model": "OPENCV", "w": width, "h": height, "frames": frames}


def _numbers(values: Sequence[float] | Sequence[int]) -> str:
    return " ".join(map(repr, values))


def _write_images(folder: Path, names: Sequence[str], images: Float[Tensor, "1 v 3 h w"]) -> None:
    for name, image in zip(names, images[0], strict=True):
        Image.fromarray(to_bytes(image).numpy()).save(folder / name)


def _write_json(path: Path, content: Any) -> None:
    text = json.dumps(content, ensure_ascii=False, indent=1) + "\n"
    try:
        with whole_file(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
    except OSError as error:
        raise unwritable(path, error) from error
