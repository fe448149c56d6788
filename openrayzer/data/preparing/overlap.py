"""Visual overlap of two views: tables for the view sampler ``overlap_curriculum``.

Overlap is measured from images alone, since few datasets have depth. A measure describes each image once and compares
the descriptions:

- ``KeypointOverlap`` needs no weights. It counts the parts of an image that are found in the other image. So it is
  close to covisibility, and it is 0 for images without common parts. It needs texture: blank walls do not count, and it
  underestimates the overlap for changes of viewpoint above about 30 degrees.
- ``TokenOverlap`` is the cosine of the mean features of a tokenizer. With pretrained features (``dinov3``) it is the
  semantic overlap of E-RayZer. It works for blank walls, blur and wide baselines. Its range is narrow, because all
  views of one room have similar features: E-RayZer lowers it to 0.75 instead of 0.5.
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
"""Smallest number and share of matches that agree with an epipolar geometry; fewer may agree by chance."""
_READ_AT_ONCE = 16  # frames; the limit keeps memory independent of the length of a scene


class OverlapMeasure(ABC, Generic[T]):
    """A measure of the overlap of two images, from 0 (none, or opposite features) to 1."""

    @abstractmethod
    def describe(self, image: np.ndarray) -> T:
        """The description of an image (h, w, 3) uint8."""

    @abstractmethod
    def overlap(self, one: T, other: T) -> float:
        """Overlap of two described images; symmetric."""


@dataclass(frozen=True)
class Keypoints:
    """Keypoints of an image: positions (k, 2) in pixels of the shrunk image, and descriptors (k, 128)."""

    points: np.ndarray
    descriptors: np.ndarray


class KeypointOverlap(OverlapMeasure[Keypoints]):
    """Share of the textured cells of an image that match the other image, averaged over both directions.

    Two SIFT keypoints match if each is the best match of the other and clearly better than the second best, and if the
    pair agrees with the epipolar geometry of all pairs. A cell counts if it or a neighbour has a match.

    Args:
        short_side: larger images are shrunk to this short side in pixels.
        grid: number of cells along the short side.
        num_keypoints: number of strongest keypoints used per image.
        ratio: largest ratio of the best to the second best distance of descriptors.
        tolerance: largest distance from the epipolar line in pixels.
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
        """Matching points of both images that agree with one epipolar geometry."""
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
        tokenizer: a tokenizer with pretrained weights. ``dinov3`` ends with a random map to its token width; the map
            changes cosines by about 1 / sqrt(width), and equally after the same ``torch.manual_seed``.
        image_size: height and width that images are resized and cropped to, multiples of the patch size.
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
    """The table of one scene, or the reason why it has none.

    Attributes:
        scene: the scene's name.
        table: interval in frames -> overlap; empty if there is no table.
        problem: why the table is empty.
    """

    scene: str
    table: dict[int, float]
    problem: str = ""


def overlap_tables(
    dataset: Dataset, measure: OverlapMeasure, *, samples: int = 8, max_interval: int = 64
) -> Iterator[SceneOverlap]:
    """Yield the tables of all scenes of an open dataset, in order; ``write_overlap_tables`` writes them to a file."""
    for scene in range(len(dataset)):
        yield scene_overlap(dataset, scene, measure, samples=samples, max_interval=max_interval)


def scene_overlap(
    dataset: Dataset, scene: int, measure: OverlapMeasure, *, samples: int = 8, max_interval: int = 64
) -> SceneOverlap:
    """The table of one scene, see ``overlap_table``, or the reason why it has none."""
    try:
        table = overlap_table(dataset, scene, measure, samples=samples, max_interval=max_interval)
    except (BrokenSceneError, UnusableSceneError) as error:
        return SceneOverlap(dataset.key(scene), {}, str(error))
    return SceneOverlap(dataset.key(scene), table)


def overlap_table(
    dataset: Dataset, scene: int, measure: OverlapMeasure, *, samples: int = 8, max_interval: int = 64
) -> dict[int, float]:
    """Interval in frames -> mean overlap of two views at this interval, over triplets of views along the scene.

    Each interval is about 1.2 times the previous one. Broken frames are left out.

    Args:
        dataset: an open dataset.
        scene: number of the scene.
        measure: measure of overlap.
        samples: number of evenly spaced triplets of views per interval.
        max_interval: longest interval in frames; at most half of the scene.

    Raises:
        BrokenSceneError: the scene cannot be used.
        UnusableSceneError: the scene has fewer than three frames, or no triplet without broken frames.

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
            f"scene {dataset.key(scene)!r} has {count} frames, and no three evenly spaced frames are usable"
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
