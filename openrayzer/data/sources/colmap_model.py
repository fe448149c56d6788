"""Cameras and images of a COLMAP sparse model, text or binary.

Only these two small tables are needed. pycolmap also reads the points and may hang on a truncated model, so it is not
used here. Every count in a file is checked against the size of the file.

Source of the format: https://colmap.github.io/format.html and src/colmap/scene/reconstruction_io.cc.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from openrayzer.machine.plain_files import FileError, read_plain_file

PARAMETERS = {  # model: (number in binary files, number of parameters)
    "SIMPLE_PINHOLE": (0, 3), "PINHOLE": (1, 4), "SIMPLE_RADIAL": (2, 4), "RADIAL": (3, 5), "OPENCV": (4, 8),
    "OPENCV_FISHEYE": (5, 8), "FULL_OPENCV": (6, 12), "FOV": (7, 5), "SIMPLE_RADIAL_FISHEYE": (8, 4),
    "RADIAL_FISHEYE": (9, 5), "THIN_PRISM_FISHEYE": (10, 12), "RAD_TAN_THIN_PRISM_FISHEYE": (11, 16),
    "SIMPLE_DIVISION": (12, 4), "DIVISION": (13, 5), "SIMPLE_FISHEYE": (14, 3), "FISHEYE": (15, 4), "EUCM": (16, 6),
    "EQUIRECTANGULAR": (17, 2),
}  # fmt: skip
_BY_NUMBER = {number: model for model, (number, _) in PARAMETERS.items()}
_MAX_NAME = 4096
_MAX_BYTES = 1 << 32  # images.bin has 24 bytes per keypoint of each image


@dataclass(frozen=True)
class ColmapCamera:
    """A camera: name of its model, size in pixels, parameters in the order of the model."""

    model: str
    height: int
    width: int
    parameters: tuple[float, ...]


@dataclass(frozen=True)
class ColmapImage:
    """A registered image: its name, camera number, world-to-camera quaternion (w, x, y, z) and translation."""

    name: str
    camera: int
    quaternion: tuple[float, ...]
    translation: tuple[float, ...]


def read_cameras(folder: Path, *, root: Path | None) -> dict[int, ColmapCamera | str]:
    """Cameras of a model by number, from cameras.bin or cameras.txt; a sentence for a number with different cameras.

    Raises:
        FileError: neither file exists, or the file is damaged.
    """
    name, data = _read_either(folder, "cameras", root)
    try:
        pairs = _binary_cameras(data) if name.endswith(".bin") else _text_cameras(_text(data))
        cameras: dict[int, ColmapCamera | str] = {}
        for number, camera in pairs:
            same = cameras.setdefault(number, camera) == camera
            cameras[number] = camera if same else f"{name} has more than one camera {number}, and they differ"
        return cameras
    except (struct.error, ValueError, IndexError) as error:
        raise _damaged(name, error) from error


def read_images(folder: Path, *, root: Path | None) -> list[ColmapImage]:
    """Registered images of a model, from images.bin or images.txt.

    Raises:
        FileError: neither file exists, or the file is damaged.
    """
    name, data = _read_either(folder, "images", root)
    try:
        return list(_binary_images(data) if name.endswith(".bin") else _text_images(_text(data)))
    except (struct.error, ValueError, IndexError) as error:
        raise _damaged(name, error) from error


def _text(data: bytes) -> str:
    """Decode text; bytes that are not UTF-8 become surrogates, as in Python's file names."""
    return data.decode("utf-8", "surrogateescape")


def _damaged(name: str, error: Exception) -> FileError:
    return error if isinstance(error, FileError) else FileError(f"{name} is damaged, was it cut short? {error}")


def _read_either(folder: Path, table: str, root: Path | None) -> tuple[str, bytes]:
    for name in (f"{table}.bin", f"{table}.txt"):
        if (folder / name).exists():
            try:
                return name, read_plain_file(folder / name, root=root, limit=_MAX_BYTES)
            except FileError as error:
                raise FileError(f"{name}: {error}") from error
    raise FileError(f"there is neither {table}.bin nor {table}.txt in {folder}")


def _binary_cameras(data: bytes) -> Iterator[tuple[int, ColmapCamera]]:
    (count,), position = struct.unpack_from("<Q", data), 8
    for _ in range(min(count, len(data))):
        number, model_number, width, height = struct.unpack_from("<iiQQ", data, position)
        if model_number not in _BY_NUMBER:
            raise FileError(f"cameras.bin: camera {number} is of an unknown model, number {model_number}")
        model = _BY_NUMBER[model_number]
        length = PARAMETERS[model][1]
        parameters = struct.unpack_from(f"<{length}d", data, position + 24)
        position += 24 + 8 * length
        yield number, ColmapCamera(model, height, width, parameters)
    if position != len(data):
        raise FileError(f"cameras.bin has {len(data)} bytes, its {count} cameras need {position}")


def _text_cameras(text: str) -> Iterator[tuple[int, ColmapCamera]]:
    for line in text.splitlines():
        if line.strip() and not line.startswith("#"):
            number, model, width, height, *parameters = line.split()
            if model not in PARAMETERS or len(parameters) != PARAMETERS[model][1]:
                raise FileError(f"cameras.txt: camera {number} is of an unknown model {model} with {len(parameters)} "
                                "parameters")  # fmt: skip
            yield int(number), ColmapCamera(model, int(height), int(width), tuple(map(float, parameters)))


def _binary_images(data: bytes) -> Iterator[ColmapImage]:
    (count,), position = struct.unpack_from("<Q", data), 8
    for _ in range(min(count, len(data))):
        _, *pose, camera = struct.unpack_from("<i7di", data, position)
        position += 64
        end = data.index(b"\0", position, position + _MAX_NAME)
        name = _text(data[position:end])
        (points,) = struct.unpack_from("<Q", data, end + 1)
        position = end + 9 + 24 * points
        if position > len(data):
            raise FileError(f"images.bin is cut short at image {name!r}")
        yield ColmapImage(name, camera, tuple(pose[:4]), tuple(pose[4:]))
    if position != len(data):
        raise FileError(f"images.bin has {len(data)} bytes, its {count} images need {position}")


def _text_images(text: str) -> Iterator[ColmapImage]:
    lines = [line for line in text.split("\n") if not line.startswith("#")]
    while lines and not lines[-1].strip():
        lines.pop()
    followed = False
    for line in lines:
        if followed and _has_points(line):
            followed = False
            continue
        followed = True
        _, *pose, camera, name = line.strip().split(" ", 9)
        numbers = [float(number) for number in pose]
        if len(numbers) != 7:
            raise ValueError(f"an image has {len(numbers)} numbers instead of 7")
        yield ColmapImage(name, int(camera), tuple(numbers[:4]), tuple(numbers[4:]))


def _has_points(line: str) -> bool:
    """Whether this is the second line of an image: x, y and number of each of its points, possibly none.

    Some tools leave out this line for all images. The first line of an image has nine numbers and then a name.
    """
    words = line.split()
    return len(words) % 3 == 0 and all(map(_is_number, words[:12]))


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True
