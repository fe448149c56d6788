"""Augmentation: transients, things that are in some views and not in the scene."""

from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np

from openrayzer.data.augmentations.chances import check_probability, check_range
from openrayzer.data.augmentations.cut_outs import CutOuts, scaled
from openrayzer.interfaces import AUGMENTATIONS, Augmentation, Clip, InputError


@AUGMENTATIONS.register("copy_paste")
class CopyPaste(Augmentation):
    """Cut-outs pasted into what the model sees; targets are compared with the clean images.

    A model learns to leave out what does not belong to the scene. Each object is somewhere else in every view.

    Args:
        probability: of any object, one decision for each clip.
        num_objects: smallest and largest number of objects in a view, one draw for each clip.
        size: smallest and largest side of an object, relative to the image's shorter one.
        views: "all": the camera estimator sees objects in targets, too; "context": only context views have some.
        same_object: probability that one thing moves through all views, instead of another thing in each.
        folder: JPEG and PNG files to cut from; transparency says where the object is, opaque images give random
            shapes. None makes coloured shapes without files.

    Raises:
        InputError: the folder has no images, or, later, one of them cannot be read.

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
        check_probability("probability", probability)
        check_probability("same_object", same_object)
        check_range("size", size)
        if not 1 <= num_objects[0] <= num_objects[1]:
            raise InputError(f"num_objects must be (smallest, largest), 1 or more, got {num_objects}")
        self.probability, self.num_objects, self.size = probability, num_objects, size
        self.views, self.same_object = views, same_object
        self.cut_outs = CutOuts(folder)

    def apply(self, clip: Clip, generator: np.random.Generator) -> Clip:
        if generator.random() >= self.probability:
            return clip
        images = clip.images.copy()
        views = range(len(images)) if self.views == "all" else sorted({*clip.context.tolist()})
        for _ in range(int(generator.integers(self.num_objects[0], self.num_objects[1] + 1))):
            same = self.cut_outs.draw(generator) if generator.random() < self.same_object else None
            for view in views:
                self._paste(images[view], self.cut_outs.draw(generator) if same is None else same, generator)
        return replace(clip, images=images, clean=clip.images if clip.clean is None else clip.clean)

    def _paste(self, image: np.ndarray, cut_out: np.ndarray, generator: np.random.Generator) -> None:
        """Put a cut-out (4, s, s) somewhere into an image (3, h, w), whole."""
        height, width = image.shape[1:]
        side = max(1, round(float(generator.uniform(*self.size)) * min(height, width)))
        colours, opacity = np.split(scaled(cut_out, side), [3])
        top, left = int(generator.integers(height - side + 1)), int(generator.integers(width - side + 1))
        place = image[:, top : top + side, left : left + side]
        place += opacity * (colours - place)
