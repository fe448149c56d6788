"""Speed of preparing and loading data, measured alternately with the PNG baseline on the same scenes."""

import json
import logging
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from statistics import median

import cv2
import numpy as np
import torch

from openrayzer.benchmarks.cache_speed import cached_epochs, write_sources
from openrayzer.benchmarks.png_baseline import convert_to_png, read_png_clip
from openrayzer.benchmarks.sample_scenes import write_scenes, write_tiny_scenes
from openrayzer.benchmarks.training_memory import train_on
from openrayzer.data.chunk_files.side_index import FRAME_INDEX_NAME
from openrayzer.data.loading.loader import ClipLoader, build_loader
from openrayzer.data.pixels.decoding import decode_image
from openrayzer.data.preparing.indexing import index_chunks
from openrayzer.data.preparing.processes import usable_processes
from openrayzer.data.sampling.view_samplers import Even
from openrayzer.data.sources.chunks import Chunks
from openrayzer.interfaces import InputError
from openrayzer.machine.freed_memory import keep_freed_memory
from openrayzer.settings import DataSettings, Source

_SIZE, _PATCH = 256, 8
_FEW = 100  # scenes of the small source, and frames of the scene that is read with a cache
_VIEWS = 4  # number of context views and of target views in a clip

LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sizes:
    """Amounts of data and measurements.

    Args:
        scenes: number of synthetic scenes, unless data are given.
        frames: frames of each scene.
        chunks: number of chunks that hold the scenes.
        batches: batches that each way of reading loads in a round.
        clips: clips of a batch, 8 views each; the full-size experiments have 64 on each of a few GPUs.
        rounds: number of rounds; medians count.
        many: scenes of the large source; 0 leaves it out.
        train: whether to train on the large source and on a source of 100 scenes.
    """

    scenes: int = 8
    frames: int = 100
    chunks: int = 4
    batches: int = 2
    clips: int = 64
    rounds: int = 3
    many: int = 10_000
    train: bool = True

    def __post_init__(self) -> None:
        if min(self.scenes, self.frames, self.chunks, self.batches, self.clips, self.rounds) < 1 or self.many < 0:
            raise InputError("scenes, frames, chunks, batches, clips and rounds must be 1 or more, many 0 or more")
        if self.chunks > self.scenes or self.frames < 8:
            raise InputError("there must be at least one scene per chunk, and 8 frames per scene")


@dataclass(frozen=True)
class Line:
    """One line of the table: name, value, unit, target ("" for none), and whether the target was reached."""

    name: str
    value: float
    unit: str
    target: str = ""
    reached: bool = True


def measure(work: Path, sizes: Sizes, *, root: Path | None = None) -> list[Line]:
    """Measure preparation, reading, caching, start-up and training.

    Args:
        work: an empty folder for some hundred megabytes of files.
        sizes: amounts of data and measurements.
        root: folder that contains chunks in ``train``; None makes synthetic scenes.
    """
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    keep_freed_memory()  # as in data workers; the baseline runs with the same setting
    given = root is not None
    if root is None:
        LOGGER.info("making %d scenes of %d frames", sizes.scenes, sizes.frames)
        root = work / "scenes"
        write_scenes(root, scenes=sizes.scenes, frames=sizes.frames, chunks=sizes.chunks)
        _write_index(root / "train")
    lines = [*_preparation(root / "train", work, sizes), *_reading(root, work / "png", sizes)]
    if not given:
        lines += _small_scenes(work, sizes)
    lines += _cached(root, work, sizes)
    if sizes.many:
        lines += _start_up(work / "many", sizes)
    if sizes.many and sizes.train:
        lines += _training(work, sizes)
    return lines


def _small_scenes(work: Path, sizes: Sizes) -> list[Line]:
    """The comparison of reading with small frames, of the size that the converter writes."""
    LOGGER.info("making %d scenes of small frames", sizes.scenes)
    root, png = work / "small", work / "small_png"
    write_scenes(root, scenes=sizes.scenes, frames=sizes.frames, chunks=sizes.chunks, size=(256, 455))
    _write_index(root / "train")
    convert_to_png(root / "train", png, processes=usable_processes())
    return _reading(root, png, sizes)


def _cached(root: Path, work: Path, sizes: Sizes) -> list[Line]:
    chunks = Chunks(root=root)
    chunks.open()
    images = chunks.read(0, range(min(chunks.num_frames(0), _FEW))).images
    height, width = images[0].shape[:2]
    lines = []
    for name, dataset in {"chunks": chunks, **write_sources(images, work / "sources")}.items():
        LOGGER.info("reading %s with and without a cache", name)
        found = cached_epochs(
            dataset, work / "cache", size=(_SIZE, _SIZE), batches=2 * sizes.batches, rounds=sizes.rounds
        )
        title = f"{width} x {height}, {name}"
        lines += [
            Line(f"{title}: without a cache", found["without"], "ms of a core / view"),
            Line(f"{title}: from a cache", found["with"], "ms of a core / view"),
        ]
    return lines


def _preparation(folder: Path, work: Path, sizes: Sizes) -> list[Line]:
    """Speed of preparation in wall clock time with all processors."""
    baseline, ours = list[float](), list[float]()
    processes, png, index = usable_processes(), work / "png", work / "frame_index.bin"
    images = 0
    for number in range(sizes.rounds):
        LOGGER.info("preparing, round %d of %d", number + 1, sizes.rounds)
        shutil.rmtree(png, ignore_errors=True)
        begin = time.perf_counter()
        images = convert_to_png(folder, png, processes=processes)
        baseline.append(time.perf_counter() - begin)
        ours.append(_seconds(lambda: index_chunks(folder, index, processes=processes), time.perf_counter))
    chunk_bytes, png_bytes = _bytes(folder, "*.torch"), _bytes(png, "**/*")
    factor, share = median(baseline) / median(ours), index.stat().st_size / chunk_bytes * 100
    return [
        Line(f"every image decoded and written as PNG, {processes} processes", images / median(baseline), "images / s"),
        Line("index", images / median(ours), "images / s"),
        Line("index, times faster", factor, "x", "at least 50", factor >= 50),
        Line("size of the PNG files", png_bytes / chunk_bytes * 100, "% of the chunks"),
        Line("size of the index", share, "% of the chunks", "less than 1", share < 1),
    ]


def _reading(root: Path, png: Path, sizes: Sizes) -> list[Line]:
    """Speed of reading in processor time."""
    clips, images = _chosen(root, sizes)
    views = len(images)
    height, width = decode_image(images[0].tobytes()).shape[:2]
    baseline, ours, loading, bare = list[float](), list[float](), list[float](), list[float]()
    for number in range(sizes.rounds + 1):  # the first round fills the system's cache of files and does not count
        LOGGER.info("reading %d x %d, round %d of %d", width, height, number, sizes.rounds)
        baseline.append(_seconds(lambda: _read_png(png, clips, sizes.clips), time.process_time))
        for device, seconds in (("cpu", ours), ("meta", loading)):  # on "meta" nothing is converted
            drain = partial(_drain, _loader(root, sizes.clips, device), sizes.batches)
            seconds.append(_seconds(drain, time.process_time))
        bare.append(_seconds(lambda: _decode(images), time.process_time))
    rates = [views / median(seconds[1:]) for seconds in (baseline, ours, loading, bare)]
    factor, share, title = rates[1] / rates[0], rates[2] / rates[3] * 100, f"{width} x {height}"
    return [
        Line(f"{title}: PNG with PIL, LANCZOS to 256, cropped", rates[0], "views / s and core"),
        Line(f"{title}: our loader, from chunks, the same views", rates[1], "views / s and core"),
        Line(f"{title}: our loader, times faster", factor, "x", "at least 2", factor >= 2),
        Line(f"{title}: bare JPEG decoding", rates[3], "views / s and core"),
        Line(f"{title}: our loading process, 8 bits", rates[2], "views / s and core"),
        Line(f"{title}: our loading process, of bare decoding", share, "%", "at least 70", share >= 70),
    ]


def _start_up(root: Path, sizes: Sizes) -> list[Line]:
    LOGGER.info("making %d tiny scenes", sizes.many)
    write_tiny_scenes(root, scenes=sizes.many, frames=8, chunks=min(100, sizes.many))
    LOGGER.info("opening %d scenes", sizes.many)
    unindexed = _rank(root)
    seconds = _seconds(lambda: _write_index(root / "train"), time.perf_counter)
    indexed = _rank(root)
    return [
        *_opened(f"{sizes.many} scenes, index.json", unindexed),
        Line(f"{sizes.many} scenes: index", seconds, "s", "less than 10", seconds < 10),
        *_opened(f"{sizes.many} scenes, side index", indexed),
    ]


def _training(work: Path, sizes: Sizes) -> list[Line]:
    few = work / "few"
    write_tiny_scenes(few, scenes=_FEW, frames=8, chunks=_FEW)
    lines = []
    for count, root in ((_FEW, few), (sizes.many, work / "many")):
        LOGGER.info("training on %d tiny scenes", count)
        needs = train_on(root, work / f"run_{count}")
        lines += [
            Line(f"{count} scenes, training: first step, from the command", needs.first_step_seconds, "s"),
            Line(f"{count} scenes, training: memory of the rank", needs.rank_bytes / 1e6, "MB"),
            Line(f"{count} scenes, training: memory of a worker", needs.worker_bytes / 1e6, "MB"),
            Line(f"{count} scenes, training: all, shared memory once", needs.own_bytes / 1e6, "MB"),
        ]
    return lines


def _write_index(folder: Path) -> None:
    """Write the side index to the place where the dataset finds it."""
    index_chunks(folder, folder / FRAME_INDEX_NAME, processes=usable_processes())


def _opened(title: str, found: Mapping[str, float]) -> list[Line]:
    first, rank = found["first_batch_seconds"], found["rank_megabytes"]
    whole = rank + found["workers_own_megabytes"]
    return [
        Line(f"{title}: open", found["open_seconds"], "s"),
        Line(f"{title}: first batch", first, "s", "less than 10", first < 10),
        Line(f"{title}: memory of a rank", rank, "MB", "less than 1000", rank < 1000),
        Line(f"{title}: of that, libraries", found["libraries_megabytes"], "MB"),
        Line(f"{title}: memory of a rank with 2 workers", whole, "MB", "less than 1000", whole < 1000),
    ]


def _rank(root: Path) -> dict[str, float]:
    command = [sys.executable, "-c", "from openrayzer.benchmarks.start_up import main; main()", str(root)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise RuntimeError(f"{root} could not be opened:\n{done.stderr}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def _loader(root: Path, clips: int, device: str = "cpu") -> ClipLoader:
    sampler = Even(num_context=_VIEWS, num_target=_VIEWS)
    source = Source(dataset=Chunks(root=root))
    settings = DataSettings(train=(source,), view_sampler=sampler, image_size=(_SIZE, _SIZE), workers=0)
    return build_loader(settings, batch_size_per_rank=clips, rank=0, world_size=1, seed=0, device=device)


def _drain(loader: ClipLoader, batches: int) -> None:
    for _ in islice(loader, batches):
        pass


def _chosen(root: Path, sizes: Sizes) -> tuple[list[tuple[str, list[int]]], list[np.ndarray]]:
    """The first clips of the loader, and the encoded images of all their views."""
    clips = [
        (scene, frames.tolist())
        for views in islice(_loader(root, sizes.clips), sizes.batches)
        for scene, frames in zip(views.scenes, views.frames, strict=True)
    ]
    encoded = {
        scene["key"]: scene["images"]
        for path in sorted((root / "train").glob("*.torch"))
        for scene in torch.load(path, weights_only=True)
    }
    return clips, [encoded[key][frame].numpy() for key, frames in clips for frame in frames]


def _read_png(png: Path, clips: Sequence[tuple[str, list[int]]], batch: int) -> None:
    for first in range(0, len(clips), batch):
        chosen = clips[first : first + batch]
        torch.stack([read_png_clip(png, scene, frames, size=_SIZE, patch=_PATCH) for scene, frames in chosen])


def _decode(images: Sequence[np.ndarray]) -> None:
    for image in images:
        cv2.imdecode(image, cv2.IMREAD_COLOR)


def _seconds(work: Callable[[], object], clock: Callable[[], float]) -> float:
    begin = clock()
    work()
    return clock() - begin


def _bytes(folder: Path, pattern: str) -> int:
    return sum(path.stat().st_size for path in folder.glob(pattern) if path.is_file())
