"""The baseline for data loading: each image of the chunks is converted to a PNG file and read with PIL.

It does the work of LVSM's process_data.py and dataset with the same libraries and settings.
"""

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from openrayzer.data.preparing.processes import parallel_results


def convert_to_png(folder: Path, output: Path, *, processes: int) -> int:
    """Write each image of the chunks in ``folder`` as PNG, and a JSON file for each scene. Returns the image count."""
    chunks = sorted(folder.glob("*.torch"))
    return sum(count for _, count in parallel_results(partial(_convert_chunk, output), chunks, processes=processes))


def _convert_chunk(output: Path, path: Path) -> int:
    count = 0
    for scene in torch.load(path, weights_only=True):
        images = output / "images" / scene["key"]
        images.mkdir(parents=True, exist_ok=True)
        frames = []
        for number, (image, camera) in enumerate(zip(scene["images"], scene["cameras"].numpy(), strict=True)):
            pixels = cv2.imdecode(image.numpy(), cv2.IMREAD_COLOR)
            if pixels is None:
                continue
            file = images / f"{number:05}.png"
            cv2.imwrite(str(file), pixels)
            frames.append(_frame(file, camera, pixels.shape[:2]))
            count += 1
        table = output / "metadata" / f"{scene['key']}.json"
        table.parent.mkdir(parents=True, exist_ok=True)
        table.write_text(json.dumps({"scene_name": scene["key"], "frames": frames}, indent=4))
    return count


def _frame(file: Path, camera: np.ndarray, size: tuple[int, ...]) -> dict[str, object]:
    height, width = size
    w2c = np.vstack([camera[6:].reshape(3, 4), [0, 0, 0, 1]])
    intrinsics = [float(value) for value in camera[:4] * [width, height, width, height]]
    return {"image_path": str(file), "fxfycxcy": intrinsics, "w2c": w2c.tolist()}


def read_png_clip(output: Path, scene: str, frames: Sequence[int], *, size: int, patch: int) -> Tensor:
    """Read frames of a converted scene, as (v, 3, size, size) in [0, 1].

    Images are resized to the height ``size`` with LANCZOS, with the width rounded to a multiple of ``patch``, and then
    cropped at the centre.
    """
    table = json.loads((output / "metadata" / f"{scene}.json").read_text())
    views = []
    for frame in frames:
        with Image.open(table["frames"][frame]["image_path"]) as stored:
            width = round(size / stored.height * stored.width / patch) * patch
            resized = stored.resize((width, size), resample=Image.Resampling.LANCZOS)
        left = (width - size) // 2
        cut = resized.crop((left, 0, left + size, size))
        views.append(torch.from_numpy(np.array(cut) / 255.0).permute(2, 0, 1).float())
    return torch.stack(views)
