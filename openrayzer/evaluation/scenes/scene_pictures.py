"""Pictures of a scene: context views, targets, renders, error maps, and the maps of the model."""

import heapq
import io
import re
from collections.abc import Mapping, Sequence

import cv2
import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from openrayzer.data.pixels.false_colours import as_picture, colour_range
from openrayzer.data.pixels.resizing import to_bytes
from openrayzer.data.sampling.view_samplers import spread
from openrayzer.evaluation.results.scene_result import SceneResult

MAX_VIEWS = 12
"""Most context views, and most target views, that are drawn of a scene; of more views, an evenly spread choice."""
QUALITY = 92
"""Quality of JPEG files."""
FULL_ERROR = 0.25
"""Mean absolute error over the colour channels, in [0, 1], that has the brightest colour of an error map."""
ERROR_MAPS = f"mean absolute error over channels; inferno, black is 0, brightest is {FULL_ERROR} or more"
MODEL_MAPS = (
    "depth: turbo of the inverse, red is near and blue is far; confidence and opacity: grey, white is 1; other maps: "
    "turbo, red is high; the ends of turbo are the 2 % and the 98 % quantile of the map in this scene"
)
EXTREMES = 4
"""Number of worst scenes, and of best scenes, that are drawn besides the first ones."""


def drawn_views(count: int) -> tuple[int, ...]:
    """Positions of at most ``MAX_VIEWS`` of ``count`` views, evenly spread, including the first and the last."""
    return tuple(spread(list(range(count)), MAX_VIEWS))


def draw(
    result: SceneResult,
    *,
    context: Float[Tensor, "vc 3 h w"],
    target: Float[Tensor, "s 3 h w"],
    rendered: Mapping[str, Float[Tensor, "s 3 h w"]],
    maps: Mapping[str, Mapping[str, Float[Tensor, "s _ h w"]]],
    shown: Sequence[int],
) -> None:
    """Add the pictures of a scene to its result.

    Args:
        result: result of the scene.
        context: all its context views.
        target: the targets at the positions ``shown``.
        rendered: the same targets, rendered with each placement.
        maps: maps of the same targets, such as depth, by placement and name.
        shown: positions among the targets of the scene.
    """
    folder = f"pictures/{result.number}"
    chosen = drawn_views(len(result.context))
    _add(result, "context", [result.context[position] for position in chosen], context[list(chosen)], folder)
    frames = [result.target[position] for position in shown]
    _add(result, "target", frames, target, folder)
    for method, images in rendered.items():
        _add(result, method, frames, images, folder)
        errors = [error_map(image, truth) for image, truth in zip(images, target, strict=True)]
        _add_maps(result, f"{method}_error", frames, errors, folder)
        for name, values in maps.get(method, {}).items():
            between = colour_range(name, values)
            pictures = [as_picture(name, value, between).numpy() for value in values]
            _add_maps(result, f"{method}_{re.sub('[^A-Za-z0-9_]', '_', name)}", frames, pictures, folder)


def error_map(image: Float[Tensor, "3 h w"], truth: Float[Tensor, "3 h w"]) -> UInt8[np.ndarray, "h w 3"]:
    """The error map of an image, as ``ERROR_MAPS`` describes it; a value that is not finite is the largest error."""
    error = (image.float().clamp(0, 1) - truth.float()).abs().mean(dim=0).nan_to_num(nan=1.0)
    levels = (error / FULL_ERROR * 255).clamp(max=255).round().numpy().astype(np.uint8)
    return cv2.cvtColor(cv2.applyColorMap(levels, cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB)


class Extremes:
    """The scenes that keep their pictures: the first ones, the worst and the best.

    Args:
        first: scenes with a lower number keep their pictures in any case; 0 draws no scene at all.
    """

    def __init__(self, *, first: int) -> None:
        self.first = first
        self._worst: list[tuple[float, int]] = []
        self._best: list[tuple[float, int]] = []
        self._drawn: dict[int, SceneResult] = {}

    def wants(self, result: SceneResult) -> bool:
        """Whether the scene is drawn, given the scenes so far. A quality of NaN counts as the worst."""
        if self.first == 0 or result.quality is None:
            return False
        return result.number < self.first or any(
            len(heap) < EXTREMES or entry > heap[0] for heap, entry in self._entries(result)
        )

    def add(self, result: SceneResult) -> None:
        """Count a drawn scene. Scenes that are no longer among the worst or best lose their pictures."""
        for heap, entry in self._entries(result):
            heapq.heappush(heap, entry)
            if len(heap) > EXTREMES:
                heapq.heappop(heap)
        self._drawn[result.number] = result
        kept = {-number for _, number in (*self._worst, *self._best)}
        for number in [number for number in self._drawn if number >= self.first and number not in kept]:
            dropped = self._drawn.pop(number)
            dropped.pictures, dropped.files, dropped.centres = {}, {}, {}

    def _entries(self, result: SceneResult) -> tuple[tuple[list[tuple[float, int]], tuple[float, int]], ...]:
        quality, number = result.quality, result.number
        quality = quality if quality is not None and quality == quality else float("-inf")
        return (self._worst, (-quality, -number)), (self._best, (quality, -number))


def _add(result: SceneResult, kind: str, frames: Sequence[int], images: Float[Tensor, "s 3 h w"], folder: str) -> None:
    paths = result.pictures[kind] = {}
    for frame, image in zip(frames, images, strict=True):
        paths[str(frame)] = path = f"{folder}/{kind}_{frame}.jpg"
        result.files[path] = _encoded(to_bytes(image.nan_to_num(nan=0.0)).numpy(), "JPEG")


def _add_maps(
    result: SceneResult, kind: str, frames: Sequence[int], maps: Sequence[UInt8[np.ndarray, "h w 3"]], folder: str
) -> None:
    paths = result.pictures[kind] = {}
    for frame, pixels in zip(frames, maps, strict=True):
        paths[str(frame)] = path = f"{folder}/{kind}_{frame}.png"
        result.files[path] = _encoded(pixels, "PNG")


def _encoded(pixels: UInt8[np.ndarray, "h w 3"], kind: str) -> bytes:
    stream = io.BytesIO()
    options = {"quality": QUALITY, "subsampling": 0} if kind == "JPEG" else {}
    Image.fromarray(pixels).save(stream, kind, **options)
    return stream.getvalue()
