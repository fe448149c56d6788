"""Processor time of reading with and without ``data.cache``, in the second epoch."""

import json
import shutil
import time
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from statistics import median

import cv2
import numpy as np

from openrayzer.data.loading.loader import build_loader
from openrayzer.data.sampling.view_samplers import Window
from openrayzer.data.sources.dl3dv import Dl3dv
from openrayzer.data.sources.images import Images
from openrayzer.data.sources.video import Video
from openrayzer.interfaces import Dataset
from openrayzer.settings import CacheSettings, DataSettings, Source

_VIEWS = 8
_GIGABYTES = 4.0


def write_sources(images: Sequence[np.ndarray], folder: Path) -> dict[str, Dataset]:
    """Write frames of (h, w, 3), RGB, as PNG files, as PNG files with lens distortion, and as a video."""
    height, width = images[0].shape[:2]
    pictures = folder / "scene" / "images"
    pictures.mkdir(parents=True)
    frames = []
    for number, image in enumerate(images):
        name = f"frame_{number:05}.png"
        cv2.imwrite(str(pictures / name), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        frames.append({"file_path": f"images/{name}", "transform_matrix": np.eye(4).tolist()})
    focal = {"fl_x": width * 0.6, "fl_y": width * 0.6, "cx": width / 2, "cy": height / 2, "w": width, "h": height}
    table = focal | {"k1": 0.05, "k2": -0.05, "p1": 0.0, "p2": 0.0, "frames": frames}
    (folder / "scene" / "transforms.json").write_text(json.dumps(table))
    sources: dict[str, Dataset] = {"PNG": Images(root=pictures), "PNG, distorted": Dl3dv(root=folder)}
    if find_spec("av") is not None:
        _write_video(images, folder / "clip.mp4")
        sources["video, H.264"] = Video(root=folder / "clip.mp4")
    return sources


def _write_video(images: Sequence[np.ndarray], path: Path) -> None:
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30, options={"crf": "20"})
        stream.height, stream.width = (side // 2 * 2 for side in images[0].shape[:2])
        stream.pix_fmt = "yuv420p"
        for image in images:
            even = np.ascontiguousarray(image[: stream.height, : stream.width])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(even, format="rgb24")))
        container.mux(stream.encode())


def cached_epochs(
    dataset: Dataset, folder: Path, *, size: tuple[int, int], batches: int, rounds: int
) -> Mapping[str, float]:
    """Milliseconds of one processor for a view, without a cache and with a cache that one epoch has filled.

    Args:
        dataset: scenes of at least 8 frames.
        folder: folder for the cache; it is emptied for each round.
        size: height and width of the views in pixels.
        batches: number of batches of an epoch, 8 views each.
        rounds: number of rounds; the median counts.
    """
    found: dict[str, list[float]] = {"without": [], "with": []}
    for _ in range(rounds):
        shutil.rmtree(folder, ignore_errors=True)
        cache = CacheSettings(folder=folder, gigabytes=_GIGABYTES)
        for name, setting in (("without", None), ("", cache), ("with", cache)):
            sampler = Window(num_context=4, num_target=4, min_frame_distance=7, max_frame_distance=15)
            settings = DataSettings(
                train=(Source(dataset=dataset),), view_sampler=sampler, image_size=size, workers=0, cache=setting
            )
            loader = build_loader(settings, batch_size_per_rank=1, rank=0, world_size=1, seed=0, device="meta")
            begin = time.process_time()
            for _ in islice(loader, batches):
                pass
            if name:
                found[name].append((time.process_time() - begin) / (batches * _VIEWS) * 1e3)
    return {name: median(times) for name, times in found.items()}
