"""Statistics of a dataset from a sample: lengths, movement, fields of view, image sizes, thumbnails."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import cv2
import numpy as np

from openrayzer.data.pixels.resizing import fit_image
from openrayzer.data.preparing.processes import parallel_results
from openrayzer.data.preparing.whole_scenes import SceneLength, scene_lengths
from openrayzer.interfaces import BrokenSceneError, Dataset, Frames
from openrayzer.machine.progress import with_progress

THUMBNAIL = (96, 128)
"""Height and width of a thumbnail on the contact sheet in pixels."""

_FRAMES = 16  # evenly spaced frames that are read per scene
_SHOWN = 6  # thumbnails per scene on the contact sheet


@dataclass(frozen=True)
class SceneStatistics:
    """Statistics of one scene from a sample of its frames.

    Attributes:
        key: the scene's name.
        num_frames: its length.
        sizes: different sizes of the images, as "width x height".
        fov: horizontal and vertical field of view of the first sampled frame in degrees; empty without cameras.
        span: largest distance between two cameras in the units of the poses; empty without cameras.
        step: mean distance between successive frames in the same units; empty without cameras.
        turn: largest angle between two viewing directions in degrees; empty without cameras.
        thumbnails: (h, w, 3) uint8 thumbnails of some frames.
    """

    key: str
    num_frames: int
    sizes: tuple[str, ...]
    fov: tuple[float, ...] = ()
    span: tuple[float, ...] = ()
    step: tuple[float, ...] = ()
    turn: tuple[float, ...] = ()
    thumbnails: list[np.ndarray] = field(default_factory=list, repr=False)

    def as_json(self) -> dict[str, Any]:
        """The numbers as plain values."""
        return {key: value for key, value in asdict(self).items() if key != "thumbnails"}


def gather(dataset: Dataset, *, sample: int, processes: int) -> tuple[list[SceneStatistics], list[int], list[str]]:
    """Statistics of up to ``sample`` evenly spread scenes, the lengths of all scenes, and all problems."""
    problems = list(dataset.problems)
    scenes = scene_lengths(dataset, problems)
    chosen = [
        scenes[place] for place in np.unique(np.linspace(0, len(scenes) - 1, min(sample, len(scenes))).astype(int))
    ]
    looked = parallel_results(partial(_look_at, dataset), chosen, processes=processes)
    found = []
    for _, result in with_progress(looked, total=len(chosen), unit="scenes", title="stats"):
        if isinstance(result, str):
            problems.append(result)
        else:
            found.append(result)
    return found, [scene.num_frames for scene in scenes], problems


def summary(scenes: Sequence[SceneStatistics], lengths: Sequence[int]) -> dict[str, Any]:
    """Summary of a dataset: counts, image sizes, and the smallest, median and largest value of each number."""
    columns = {
        "frames": [float(length) for length in lengths],
        "horizontal_fov": [scene.fov[0] for scene in scenes if scene.fov],
        "vertical_fov": [scene.fov[1] for scene in scenes if scene.fov],
        "span": [value for scene in scenes for value in scene.span],
        "step": [value for scene in scenes for value in scene.step],
        "turn": [value for scene in scenes for value in scene.turn],
    }
    ranges = {name: [min(values), float(np.median(values)), max(values)] for name, values in columns.items() if values}
    sizes = Counter(size for scene in scenes for size in scene.sizes)
    return {
        "num_scenes": len(lengths), "num_frames": sum(lengths), "num_scenes_looked_at": len(scenes),
        "sizes": dict(sizes.most_common()), "least_median_largest": ranges,
    }  # fmt: skip


def _look_at(dataset: Dataset, scene: SceneLength) -> SceneStatistics | str:
    read: dict[int, Frames] = {}
    fault = ""
    for frame in np.unique(np.linspace(0, scene.num_frames - 1, _FRAMES).astype(int)).tolist():
        try:
            read[frame] = dataset.read(scene.scene, [frame])
        except BrokenSceneError as error:
            fault = str(error)
    if not read:
        return fault
    images = [frames.images[0] for frames in read.values()]
    sizes = tuple(dict.fromkeys(f"{image.shape[1]} x {image.shape[0]}" for image in images))
    places = np.unique(np.linspace(0, len(images) - 1, _SHOWN).astype(int))
    thumbnails = [_thumbnail(images[place]) for place in places]
    if not dataset.posed:
        return SceneStatistics(scene.key, scene.num_frames, sizes, thumbnails=thumbnails)
    return SceneStatistics(scene.key, scene.num_frames, sizes, **_movement(read), thumbnails=thumbnails)


def _movement(read: dict[int, Frames]) -> dict[str, tuple[float, ...]]:
    c2w = np.concatenate([frames.c2w for frames in read.values() if frames.c2w is not None]).astype(np.float64)
    intrinsics = next(frames.intrinsics for frames in read.values() if frames.intrinsics is not None)[0]
    centres, views = c2w[:, :3, 3], c2w[:, :3, 2]
    distances = np.linalg.norm(centres[:, None] - centres[None], axis=-1)
    numbers = np.array(list(read))
    steps = np.diag(distances, 1) / np.diff(numbers) if len(numbers) > 1 else np.zeros(0)
    turn = np.degrees(np.arccos(np.clip(views @ views.T, -1, 1).min()))
    fov = np.degrees(2 * np.arctan(0.5 / intrinsics[:2]))
    return {
        "fov": tuple(fov.tolist()),
        "span": (float(distances.max()),),
        "step": (float(steps.mean()),) if len(steps) else (),
        "turn": (float(turn),),
    }


def _thumbnail(image: np.ndarray) -> np.ndarray:
    """The whole image on a grey background of ``THUMBNAIL`` size."""
    height, width = image.shape[:2]
    scale = min(THUMBNAIL[0] / height, THUMBNAIL[1] / width)
    size = max(round(height * scale), 1), max(round(width * scale), 1)
    small = cv2.convertScaleAbs(fit_image(image, size).transpose(1, 2, 0) * 255)
    sheet = np.full((*THUMBNAIL, 3), 128, np.uint8)
    top, left = (THUMBNAIL[0] - size[0]) // 2, (THUMBNAIL[1] - size[1]) // 2
    sheet[top : top + size[0], left : left + size[1]] = small
    return sheet
