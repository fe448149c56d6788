"""Format of chunks, the ``.torch`` files of pixelSplat, and functions to write them.

A chunk is ``torch.save(list[dict])`` with one dict per scene: ``key`` str, ``url`` str, ``timestamps`` int64 (v,),
``cameras`` float32 (v, 18), ``images`` a list of v uint8 tensors with encoded files (JPEG or PNG). The 18 numbers of a
camera are fx / w, fy / h, cx / w, cy / h, 0, 0, then the world-to-camera matrix, 3x4, row by row, OpenCV axes. As
extensions of the format, scenes without cameras have no ``cameras``, and scenes with known depth have ``depths``: a
list of v uint8 tensors with 16-bit grey PNG files, see ``depth_maps``. Each folder of chunks has an ``index.json`` that
maps scene keys to names of chunk files.

Source of the format: github.com/dcharatan/pixelsplat and github.com/dcharatan/real_estate_10k_tools.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch

from openrayzer.interfaces import InputError
from openrayzer.machine.writing import whole_file

CAMERA_COLUMNS = 18
INDEX_NAME = "index.json"


@dataclass(frozen=True)
class ChunkScene:
    """One scene of a chunk.

    Attributes:
        key: the scene's name.
        cameras: (v, 18) float32, see the docstring of the module; None for a scene without cameras.
        images: v encoded image files; a missing frame has no bytes and a camera of NaN.
        timestamps: (v,) int64, usually in microseconds.
        url: source of the scene; empty if unknown.
        depths: v encoded depth maps, see ``depth_maps``; None for a scene without depth. A missing frame has no bytes.
    """

    key: str
    cameras: np.ndarray | None
    images: list[bytes]
    timestamps: np.ndarray
    url: str = ""
    depths: list[bytes] | None = None


@dataclass(frozen=True)
class Origin:
    """Facts about a scene that a chunk stores besides images and cameras.

    Attributes:
        url: source of the scene; empty if unknown.
        timestamps: (v,) int64, one per frame, usually in microseconds; empty if unknown.
    """

    url: str
    timestamps: np.ndarray


@runtime_checkable
class KnowsOrigin(Protocol):
    """A dataset that knows the origin of its scenes."""

    def origin(self, scene: int) -> Origin:
        """The origin of a scene.

        Raises:
            BrokenSceneError: the scene cannot be used.
        """


def cameras_to_rows(c2w: np.ndarray, intrinsics: np.ndarray) -> np.ndarray:
    """Rows (v, 18) of cameras with ``c2w`` (v, 4, 4), OpenCV axes, and normalised ``intrinsics`` (v, 4)."""
    w2c = np.linalg.inv(np.asarray(c2w, np.float64))[:, :3].reshape(len(c2w), 12)
    unused = np.zeros((len(c2w), 2))  # the two distortion coefficients of RealEstate10K, always 0
    return np.concatenate([intrinsics, unused, w2c], axis=1).astype(np.float32)


def rows_to_cameras(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """``c2w`` (v, 4, 4) and normalised ``intrinsics`` (v, 4), float32, from rows (v, 18) with valid rotations."""
    w2c = rows[:, 6:].astype(np.float64).reshape(-1, 3, 4)
    c2w = np.zeros((len(rows), 4, 4))
    c2w[:, 3, 3] = 1
    c2w[:, :3, :3] = w2c[:, :, :3].transpose(0, 2, 1)
    c2w[:, :3, 3:] = -c2w[:, :3, :3] @ w2c[:, :, 3:]
    return c2w.astype(np.float32), rows[:, :4].astype(np.float32)


def write_chunk(path: Path, scenes: Sequence[ChunkScene]) -> None:
    """Write one chunk; the file exists completely or not at all.

    Raises:
        InputError: the numbers of cameras, images, depth maps and timestamps of a scene differ.
        OSError: the file cannot be written, e.g. because the disk is full.
    """
    buffer = BytesIO()  # torch's own error for a full disk does not give the reason
    torch.save([_stored(scene) for scene in scenes], buffer)
    with whole_file(path) as temporary:
        temporary.write_bytes(buffer.getbuffer())


def write_index(folder: Path, index: Mapping[str, str]) -> None:
    """Write ``index.json`` of a folder of chunks: scene key -> name of its chunk file."""
    text = json.dumps(dict(index), ensure_ascii=False, indent=0)
    with whole_file(folder / INDEX_NAME) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _stored(scene: ChunkScene) -> dict[str, object]:
    count = len(scene.images)
    cameras = np.zeros((count, CAMERA_COLUMNS)) if scene.cameras is None else scene.cameras
    if cameras.shape != (count, CAMERA_COLUMNS) or scene.timestamps.shape != (count,):
        raise InputError(
            f"scene {scene.key!r}: {count} images need cameras ({count}, {CAMERA_COLUMNS}) and timestamps ({count},), "
            f"got {cameras.shape} and {scene.timestamps.shape}"
        )
    if scene.depths is not None and len(scene.depths) != count:
        raise InputError(f"scene {scene.key!r}: {count} images need {count} depth maps, got {len(scene.depths)}")
    known: dict[str, object] = (
        {} if scene.cameras is None else {"cameras": torch.from_numpy(cameras.astype(np.float32))}
    )
    if scene.depths is not None:
        known["depths"] = _tensors(scene.depths)
    return {
        "url": scene.url,
        # torch saves the whole storage of a tensor, so each tensor needs its own storage
        "timestamps": torch.from_numpy(scene.timestamps.astype(np.int64)),
        **known,
        "images": _tensors(scene.images),
        "key": scene.key,
    }


def _tensors(files: Sequence[bytes]) -> list[torch.Tensor]:
    return [torch.from_numpy(np.frombuffer(file, np.uint8).copy()) for file in files]
