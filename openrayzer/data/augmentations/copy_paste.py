"""Augmentation ``copy_paste``: transient objects, which appear in some views and are not part of the scene."""

from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np

from openrayzer.data.augmentations.cut_outs import CutOuts, scaled
from openrayzer.data.augmentations.random_changes import RandomChange, check_probability, check_range
from openrayzer.interfaces import AUGMENTATIONS, Clip, InputError


@AUGMENTATIONS.register("copy_paste")
class CopyPaste(RandomChange):
    """Cut-outs pasted into the images that the model sees; the loss compares targets with the clean images.

    The model learns to ignore objects that do not belong to the scene. An object has another position in every view.

    Args:
        probability: probability that a clip gets objects.
        num_objects: smallest and largest number of objects per view, drawn once for each clip.
        size: smallest and largest side of an object, relative to the shorter side of the image.
        views: "all" pastes into all views, so the camera estimator sees objects in targets; "context" pastes only into
            context views.
        same_object: probability that all views show the same object; otherwise each view shows another one.
        folder: folder of JPEG and PNG files to cut from. Transparency gives the shape of an object; opaque images get
            random shapes. None draws coloured shapes without files.

    Raises:
        InputError: an argument is out of range, or the folder has no images. ``apply`` raises it if a file cannot be
            read.

    Source: WildRayZer, which pastes objects of COCO with these defaults.
    """

    def __init__(
        self,
        *,
        probability: float = 0.8,
        num_objects: tuple[int, int] = (1, 2),
        size: tuple[float, float] = (0.25, 0.35),
        views: Literal["all", "context"] = "all",
        same_object: float = 0.5,
        folder: Path | str | None = None,
    ) -> None:
        super().__init__(probability)
        check_probability("same_object", same_object)
        check_range("size", size)
        if not 1 <= num_objects[0] <= num_objects[1]:
            raise InputError(f"num_objects must be (smallest, largest), 1 or more, got {num_objects}")
        self.num_objects, self.size, self.views, self.same_object = num_objects, size, views, same_object
        self.cut_outs = CutOuts(folder)

    def change(self, clip: Clip, generator: np.random.Generator) -> Clip:
        images = clip.images.copy()
        views = range(len(images)) if self.views == "all" else sorted({*clip.context.tolist()})
        for _ in range(int(generator.integers(self.num_objects[0], self.num_objects[1] + 1))):
            same = self.cut_outs.draw(generator) if generator.random() < self.same_object else None
            for view in views:
                self._paste(images[view], self.cut_outs.draw(generator) if same is None else same, generator)
        return replace(clip, images=images, clean=clip.images if clip.clean is None else clip.clean)

    def _paste(self, image: np.ndarray, cut_out: np.ndarray, generator: np.random.Generator) -> None:
        """Paste a cut-out (4, s, s) at a random position where all of it lies inside the image (3, h, w)."""
        height, width = image.shape[1:]
        side = max(1, round(float(generator.uniform(*self.size)) * min(height, width)))
        colours, opacity = np.split(scaled(cut_out, side), [3])
        top, left = int(generator.integers(height - side + 1)), int(generator.integers(width - side + 1))
        place = image[:, top : top + side, left : left + side]
        place += opacity * (colours - place)
