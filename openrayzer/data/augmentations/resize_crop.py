"""Augmentation ``resize_crop``: a random crop instead of the centre of the image."""

from typing import Literal

import numpy as np

from openrayzer.data.augmentations.random_changes import check_range
from openrayzer.interfaces import AUGMENTATIONS, Augmentation, Frames


@AUGMENTATIONS.register("resize_crop")
class ResizeCrop(Augmentation):
    """A random crop of each image with the proportions of the run, resized to the size of the run; intrinsics follow.

    The crop is cut from the stored image, so no image is resampled twice. It changes focal length and principal point.
    For models that do not predict both, or that assume a centred principal point, use ``each`` "clip" and a ``scale``
    near 1.

    Args:
        scale: smallest and largest side of the crop, relative to the largest crop of these proportions; at 1 only the
            position of the crop is random.
        each: "clip" takes the same crop of all views of a clip; "view" takes another crop of each view.

    Raises:
        InputError: ``scale`` is not (smallest, largest), above 0 and up to 1.
    """

    def __init__(self, *, scale: tuple[float, float] = (0.7, 1.0), each: Literal["clip", "view"] = "clip") -> None:
        check_range("scale", scale)
        self.scale, self.each = scale, each

    def cut(self, frames: Frames, image_size: tuple[int, int], generator: np.random.Generator) -> Frames:
        count = len(frames.images)
        draws = generator.random((count if self.each == "view" else 1, 3))
        draws = np.broadcast_to(draws, (count, 3))
        boxes = [
            self._box(image.shape[:2], image_size, *row)
            for image, row in zip(frames.images, draws.tolist(), strict=True)
        ]
        images = [
            image[top : top + height, left : left + width]
            for image, (top, left, height, width) in zip(frames.images, boxes, strict=True)
        ]
        intrinsics = frames.intrinsics
        if intrinsics is not None:
            rows = zip(intrinsics, frames.images, boxes, strict=True)
            intrinsics = np.stack([_cut_intrinsics(row, image.shape[:2], box) for row, image, box in rows])
        return Frames(images, frames.c2w, intrinsics)

    def _box(
        self, stored: tuple[int, ...], wanted: tuple[int, int], zoom: float, down: float, right: float
    ) -> tuple[int, int, int, int]:
        """Top, left, height and width in whole pixels; ``zoom``, ``down`` and ``right`` are draws from 0 to 1."""
        side = self.scale[0] + zoom * (self.scale[1] - self.scale[0])
        full = min(stored[0] / wanted[0], stored[1] / wanted[1])
        height, width = (max(1, round(side * full * pixels)) for pixels in wanted)
        return round(down * (stored[0] - height)), round(right * (stored[1] - width)), height, width


def _cut_intrinsics(intrinsics: np.ndarray, stored: tuple[int, ...], box: tuple[int, int, int, int]) -> np.ndarray:
    top, left, height, width = box
    pixels = intrinsics * np.array([stored[1], stored[0], stored[1], stored[0]], np.float64)
    return ((pixels - np.array([0, 0, left, top])) / np.array([width, height, width, height])).astype(np.float32)
