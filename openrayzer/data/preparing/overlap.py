"""How much two views of a scene show of the same: tables for the view sampler ``overlap_curriculum``.

From image content alone, since few sources have depth. A measure describes each image once and compares descriptions:

- ``KeypointOverlap`` needs no weights. It counts parts of an image that are found in the other one, so it is close to
  covisibility, and it falls to 0 when nothing is found. It needs texture: blank walls count for nothing, and from
  changes of viewpoint above some 30 degrees on it sees less overlap than there is. On 13 real clips (indoor, outdoor,
  turntable; 11 to 66 frames at 256 pixels) the rank correlation of interval and overlap was between -0.91 and -1.0,
  -0.98 on average; pairs of images from different clips had overlap 0, 98 % of them (the others show the same room).
  A clip took 5 s on one core.
- ``TokenOverlap`` takes the cosine of mean features of a tokenizer. With pretrained features (``dinov3``) it is the
  semantic overlap of E-RayZer: it bears blank walls, blur and wide baselines, but views of the same room look alike to
  it even where they share nothing, so its range is narrow (E-RayZer goes down to 0.75, not to 0.5).
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import cv2
import numpy as np
import torch
from torch import Tensor

from openrayzer.data.pixels.resizing import fit_image
from openrayzer.interfaces import BrokenSceneError, Dataset, Tokenizer, UnusableSceneError

T = TypeVar("T")
_LEAST, _SHARE = 12, 0.3
"""Fewer matches, or a smaller share of them, agree with some epipolar geometry by chance."""
_READ_AT_ONCE = 16  # frames, so that memory does not grow with a scene


class OverlapMeasure(ABC, Generic[T]):
    """Describes images, and says how much two of them overlap, from 0 (not at all, or opposite) to 1."""

    @abstractmethod
    def describe(self, image: np.ndarray) -> T:
        """What is kept of an image (h, w, 3) uint8."""

    @abstractmethod
    def overlap(self, one: T, other: T) -> float:
        """Overlap of two described images; symmetric."""


@dataclass(frozen=True)
class Keypoints:
    """Where an image has something to recognise, and what: (k, 2) in units of the grid, (k, 128)."""

    points: np.ndarray
    descriptors: np.ndarray


class KeypointOverlap(OverlapMeasure[Keypoints]):
    """Share of an image's textured cells in which the other image's keypoints are found, mean of both directions.

    SIFT keypoints match when each is the other's best and clearly better than the second, and when they agree with one
    epipolar geometry. A cell is found when a match lies in it or beside it.

    Args:
        short_side: images are shrunk to it, in pixels.
        grid: cells along the short side.
        num_keypoints: strongest keypoints kept of an image.
        ratio: best to second best distance of descriptors, at most.
        tolerance: pixels from the epipolar line.
    """

    def __init__(
        self,
        *,
        short_side: int = 256,
        grid: int = 12,
        num_keypoints: int = 800,
        ratio: float = 0.75,
        tolerance: float = 2.0,
    ) -> None:
        self.short_side, self.cell, self.ratio, self.tolerance = short_side, short_side / grid, ratio, tolerance
        self.sift = cv2.SIFT.create(nfeatures=num_keypoints, contrastThreshold=0.01)
        self.matcher = cv2.BFMatcher(cv2.NORM_L2)

    def describe(self, image: np.ndarray) -> Keypoints:
        scale = self.short_side / min(image.shape[:2])
        if scale < 1:
            image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        points, descriptors = self.sift.detectAndCompute(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), None)
        if descriptors is None:
            return Keypoints(np.zeros((0, 2), np.float32), np.zeros((0, 128), np.float32))
        return Keypoints(np.array([point.pt for point in points], np.float32), np.sqrt(descriptors))

    def overlap(self, one: Keypoints, other: Keypoints) -> float:
        first, second = self._matches(one, other)
        if not len(first):
            return 0.0
        return (self._found(one.points, first) + self._found(other.points, second)) / 2

    def _matches(self, one: Keypoints, other: Keypoints) -> tuple[np.ndarray, np.ndarray]:
        """Points of the one and of the other image that are the same and agree with one epipolar geometry."""
        nothing = np.zeros((0, 2), np.float32)
        if min(len(one.points), len(other.points)) < 2:
            return nothing, nothing
        there, back = self._best(one, other), self._best(other, one)
        pairs = [(i, j) for i, j in there.items() if back.get(j) == i]
        if len(pairs) < 8:
            return nothing, nothing
        first, second = one.points[[i for i, _ in pairs]], other.points[[j for _, j in pairs]]
        matrix, inliers = cv2.findFundamentalMat(first, second, cv2.FM_RANSAC, self.tolerance, 0.99, 1000)
        if matrix is None or inliers is None:
            return nothing, nothing
        kept = inliers[:, 0] > 0
        if kept.sum() < max(_LEAST, _SHARE * len(pairs)):
            return nothing, nothing
        return first[kept], second[kept]

    def _best(self, one: Keypoints, other: Keypoints) -> dict[int, int]:
        found = self.matcher.knnMatch(one.descriptors, other.descriptors, k=2)
        return {best.queryIdx: best.trainIdx for best, second in found if best.distance < self.ratio * second.distance}

    def _found(self, points: np.ndarray, matched: np.ndarray) -> float:
        textured = {(x, y) for x, y in (points // self.cell).astype(int).tolist()}
        seen = {(x, y) for x, y in (matched // self.cell).astype(int).tolist()}
        near = {(x + dx, y + dy) for x, y in seen for dx in (-1, 0, 1) for dy in (-1, 0, 1)}
        return len(textured & near) / len(textured)


class TokenOverlap(OverlapMeasure[Tensor]):
    """Cosine of the mean tokens of two images.

    Args:
        tokenizer: with pretrained weights; the random map to its token width that ``dinov3`` ends in keeps cosines to
            about 1 / sqrt(width), and always the same way after ``torch.manual_seed``.
        image_size: height and width, multiples of the tokenizer's patch size; images are cut to it.
    """

    def __init__(self, tokenizer: Tokenizer, *, image_size: tuple[int, int] = (256, 256)) -> None:
        self.tokenizer, self.image_size = tokenizer.eval(), image_size

    def describe(self, image: np.ndarray) -> Tensor:
        weight = next(self.tokenizer.parameters())
        pixels = torch.from_numpy(fit_image(image, self.image_size)).to(weight.device)
        with torch.inference_mode():
            tokens = self.tokenizer(pixels[None, None])
        return torch.nn.functional.normalize(tokens[0, 0].float().mean(dim=0), dim=0)

    def overlap(self, one: Tensor, other: Tensor) -> float:
        return float((one * other).sum().clamp(0, 1))


@dataclass(frozen=True)
class SceneOverlap:
    """The table of one scene, or why there is none.

    Attributes:
        scene: its name.
        table: interval in frames -> overlap; empty where there is none.
        problem: why it is empty.
    """

    scene: str
    table: dict[int, float]
    problem: str = ""


def overlap_tables(
    dataset: Dataset, measure: OverlapMeasure, *, samples: int = 8, max_interval: int = 64
) -> Iterator[SceneOverlap]:
    """The tables of all scenes of an open data set, in order; ``overlap_tables.write_overlap_tables`` writes them."""
    for scene in range(len(dataset)):
        yield scene_overlap(dataset, scene, measure, samples=samples, max_interval=max_interval)


def scene_overlap(
    dataset: Dataset, scene: int, measure: OverlapMeasure, *, samples: int = 8, max_interval: int = 64
) -> SceneOverlap:
    """The table of one scene, see ``overlap_table``, or why there is none."""
    try:
        table = overlap_table(dataset, scene, measure, samples=samples, max_interval=max_interval)
    except (BrokenSceneError, UnusableSceneError) as error:
        return SceneOverlap(dataset.key(scene), {}, str(error))
    return SceneOverlap(dataset.key(scene), table)


def overlap_table(
    dataset: Dataset, scene: int, measure: OverlapMeasure, *, samples: int = 8, max_interval: int = 64
) -> dict[int, float]:
    """Interval in frames -> overlap of two views so far apart, mean over triplets of views along the scene.

    Intervals grow by about a fifth. Broken frames are left out.

    Args:
        dataset: open.
        scene: its number.
        measure: of the overlap of two images.
        samples: triplets of views for each interval, evenly spaced.
        max_interval: longest interval in frames; half of a short scene takes its place.

    Raises:
        BrokenSceneError: the scene cannot be used.
        UnusableSceneError: it has fewer than three frames, or no whole triplet.

    Source: E-RayZer, o(dt) = mean over i of (o(i, i + dt) + o(i + dt, i + 2 dt)) / 2.
    """
    count = dataset.num_frames(scene)
    triplets = {step: _starts(count, step, samples) for step in _intervals(min(max_interval, (count - 1) // 2))}
    wanted = {start + part * step for step, starts in triplets.items() for start in starts for part in range(3)}
    described = dict(_describe(dataset, scene, sorted(wanted), measure))
    known: dict[tuple[int, int], float] = {}

    def overlap(first: int, second: int) -> float:
        if (first, second) not in known:
            known[first, second] = measure.overlap(described[first], described[second])
        return known[first, second]

    table = {}
    for step, starts in triplets.items():
        whole = [start for start in starts if {start, start + step, start + 2 * step} <= described.keys()]
        if whole:
            values = [(overlap(i, i + step) + overlap(i + step, i + 2 * step)) / 2 for i in whole]
            table[step] = float(np.mean(values))
    if not table:
        raise UnusableSceneError(
            f"scene {dataset.key(scene)!r} has {count} frames, no three of them usable for a table"
        )
    return table


def _intervals(longest: int) -> list[int]:
    intervals = []
    step = 1
    while step <= longest:
        intervals.append(step)
        step = max(step + 1, round(step * 1.2))
    return intervals


def _starts(count: int, step: int, samples: int) -> list[int]:
    last = count - 1 - 2 * step
    return sorted({round(last * part / max(1, samples - 1)) for part in range(samples)})


def _describe(
    dataset: Dataset, scene: int, frames: Sequence[int], measure: OverlapMeasure[T]
) -> Iterator[tuple[int, T]]:
    for first in range(0, len(frames), _READ_AT_ONCE):
        some = frames[first : first + _READ_AT_ONCE]
        try:
            images = list(zip(some, dataset.read(scene, some).images, strict=True))
        except BrokenSceneError:
            images = list(_whole_frames(dataset, scene, some))
        yield from ((frame, measure.describe(image)) for frame, image in images)


def _whole_frames(dataset: Dataset, scene: int, frames: Sequence[int]) -> Iterator[tuple[int, np.ndarray]]:
    for frame in frames:
        try:
            yield frame, dataset.read(scene, [frame]).images[0]
        except BrokenSceneError:
            continue
