"""Chunks, the ``.torch`` files of pixelSplat: what is in one, and how to write one.

A chunk is ``torch.save(list[dict])``. One dict per scene: ``key`` str, ``url`` str, ``timestamps`` int64 (v,),
``cameras`` float32 (v, 18), ``images`` a list of v uint8 tensors holding encoded files (JPEG or PNG).
The 18 numbers of a camera are fx / w, fy / h, cx / w, cy / h, 0, 0, then the world-to-camera matrix, 3x4, row by
row, OpenCV axes. Scenes whose cameras are not known have no ``cameras``, an addition of ours. A folder of chunks has an
``index.json`` that maps each key to its chunk's file name.

Source of the format: github.com/dcharatan/pixelsplat and github.com/dcharatan/real_estate_10k_tools.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import torch

from openrayzer.interfaces import InputError
from openrayzer.machine.writing import whole_file

CAMERA_COLUMNS = 18
INDEX_NAME = "index.json"


@dataclass(frozen=True)
class ChunkScene:
    """One scene, as it is stored.

    Attributes:
        key: the scene's name.
        cameras: (v, 18) float32; see the module's description; None where they are not known.
        images: v encoded image files; a missing frame has no bytes, and a camera of NaN.
        timestamps: (v,) int64, in microseconds by custom.
        url: where the scene came from.
    """

    key: str
    cameras: np.ndarray | None
    images: list[bytes]
    timestamps: np.ndarray
    url: str = ""


def cameras_to_rows(c2w: np.ndarray, intrinsics: np.ndarray) -> np.ndarray:
    """The (v, 18) rows of cameras with ``c2w`` (v, 4, 4), OpenCV, and normalised ``intrinsics`` (v, 4)."""
    w2c = np.linalg.inv(np.asarray(c2w, np.float64))[:, :3].reshape(len(c2w), 12)
    unused = np.zeros((len(c2w), 2))  # the two distortion coefficients of RealEstate10K, always 0
    return np.concatenate([intrinsics, unused, w2c], axis=1).astype(np.float32)


def rows_to_cameras(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """``c2w`` (v, 4, 4) and normalised ``intrinsics`` (v, 4), float32, of (v, 18) rows with valid rotations."""
    w2c = rows[:, 6:].astype(np.float64).reshape(-1, 3, 4)
    c2w = np.zeros((len(rows), 4, 4))
    c2w[:, 3, 3] = 1
    c2w[:, :3, :3] = w2c[:, :, :3].transpose(0, 2, 1)
    c2w[:, :3, 3:] = -c2w[:, :3, :3] @ w2c[:, :, 3:]
    return c2w.astype(np.float32), rows[:, :4].astype(np.float32)


def write_chunk(path: Path, scenes: Sequence[ChunkScene]) -> None:
    """Write one chunk; the file exists completely or not at all.

    Raises:
        InputError: a scene's cameras, images and timestamps do not match.
        OSError: the disk is full or cannot be written to.
    """
    buffer = BytesIO()  # torch itself reports a full disk without the system's reason
    torch.save([_stored(scene) for scene in scenes], buffer)
    with whole_file(path) as temporary:
        temporary.write_bytes(buffer.getbuffer())


def write_index(folder: Path, index: Mapping[str, str]) -> None:
    """Write ``index.json`` of a folder of chunks: scene key -> name of the chunk file in that folder."""
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
    known = {} if scene.cameras is None else {"cameras": torch.from_numpy(cameras.astype(np.float32))}
    return {
        "url": scene.url,
        # torch saves a tensor's whole storage, so each one gets a storage of its own size
        "timestamps": torch.from_numpy(scene.timestamps.astype(np.int64)),
        **known,
        "images": [torch.from_numpy(np.frombuffer(image, np.uint8).copy()) for image in scene.images],
        "key": scene.key,
    }
