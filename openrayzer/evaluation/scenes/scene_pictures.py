"""Pictures of a scene: contexts, targets, what was rendered, and where it is wrong."""

import heapq
import io
from collections.abc import Sequence

import cv2
import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from openrayzer.data.pixels.resizing import to_bytes
from openrayzer.data.sampling.view_samplers import spread
from openrayzer.evaluation.results.scene_result import SceneResult

MAX_VIEWS = 12
"""Context views, and target views, of a scene that are drawn; more are thinned out evenly."""
QUALITY = 92
"""Of JPEG files."""
FULL_ERROR = 0.25
"""Mean absolute error over the colour channels, in [0, 1], from which on an error map has its brightest colour."""
ERROR_MAPS = f"mean absolute error over channels; inferno, black is 0, brightest is {FULL_ERROR} or more"
EXTREMES = 4
"""Worst scenes, and best ones, that are drawn besides the first ones."""


def drawn_views(count: int) -> tuple[int, ...]:
    """Places of at most ``MAX_VIEWS`` of so many views, evenly spread, first and last included."""
    return tuple(spread(list(range(count)), MAX_VIEWS))


def draw(
    result: SceneResult,
    *,
    context: Float[Tensor, "vc 3 h w"],
    target: Float[Tensor, "s 3 h w"],
    rendered: dict[str, Float[Tensor, "s 3 h w"]],
    shown: Sequence[int],
) -> None:
    """Add a scene's pictures to its result.

    Args:
        result: of the scene.
        context: all its context views.
        target: the targets at ``shown``.
        rendered: the same targets as each placement renders them.
        shown: places among the scene's targets.
    """
    folder = f"pictures/{result.number}"
    chosen = drawn_views(len(result.context))
    _add(result, "context", [result.context[place] for place in chosen], context[list(chosen)], folder)
    frames = [result.target[place] for place in shown]
    _add(result, "target", frames, target, folder)
    for method, images in rendered.items():
        _add(result, method, frames, images, folder)
        maps = result.pictures[f"{method}_error"] = {}
        for frame, image, truth in zip(frames, images, target, strict=True):
            maps[str(frame)] = path = f"{folder}/{method}_error_{frame}.png"
            result.files[path] = _encoded(error_map(image, truth), "PNG")


def error_map(image: Float[Tensor, "3 h w"], truth: Float[Tensor, "3 h w"]) -> UInt8[np.ndarray, "h w 3"]:
    """``ERROR_MAPS`` of one image; values that are not finite count as the largest error."""
    error = (image.float().clamp(0, 1) - truth.float()).abs().mean(dim=0).nan_to_num(nan=1.0)
    levels = (error / FULL_ERROR * 255).clamp(max=255).round().numpy().astype(np.uint8)
    return cv2.cvtColor(cv2.applyColorMap(levels, cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB)


class Extremes:
    """The worst and the best scenes so far; the others lose their pictures.

    Args:
        first: scenes with a lower number keep theirs in any case.
    """

    def __init__(self, *, first: int) -> None:
        self.first = first
        self._worst: list[tuple[float, int]] = []
        self._best: list[tuple[float, int]] = []
        self._drawn: dict[int, SceneResult] = {}

    def wants(self, number: int, quality: float) -> bool:
        """Whether a scene of that quality would be drawn now; one whose quality is NaN is among the worst."""
        return number < self.first or any(
            len(heap) < EXTREMES or entry > heap[0] for heap, entry in self._entries(number, quality)
        )

    def add(self, result: SceneResult, quality: float) -> None:
        """Count a drawn scene; scenes that are no longer extreme lose their pictures."""
        for heap, entry in self._entries(result.number, quality):
            heapq.heappush(heap, entry)
            if len(heap) > EXTREMES:
                heapq.heappop(heap)
        self._drawn[result.number] = result
        kept = self.numbers
        for number in [number for number in self._drawn if number >= self.first and number not in kept]:
            dropped = self._drawn.pop(number)
            dropped.pictures, dropped.files = {}, {}

    @property
    def numbers(self) -> set[int]:
        """Numbers of the extreme scenes."""
        return {-number for _, number in (*self._worst, *self._best)}

    def _entries(self, number: int, quality: float) -> tuple[tuple[list[tuple[float, int]], tuple[float, int]], ...]:
        quality = quality if quality == quality else float("-inf")
        return (self._worst, (-quality, -number)), (self._best, (quality, -number))


def _add(result: SceneResult, kind: str, frames: Sequence[int], images: Float[Tensor, "s 3 h w"], folder: str) -> None:
    paths = result.pictures[kind] = {}
    for frame, image in zip(frames, images, strict=True):
        paths[str(frame)] = path = f"{folder}/{kind}_{frame}.jpg"
        result.files[path] = _encoded(to_bytes(image.nan_to_num(nan=0.0)).numpy(), "JPEG")


def _encoded(pixels: UInt8[np.ndarray, "h w 3"], kind: str) -> bytes:
    stream = io.BytesIO()
    options = {"quality": QUALITY, "subsampling": 0} if kind == "JPEG" else {}
    Image.fromarray(pixels).save(stream, kind, **options)
    return stream.getvalue()
