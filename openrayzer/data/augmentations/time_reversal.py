"""Augmentation: clips played backwards."""

from dataclasses import replace

import numpy as np

from openrayzer.data.augmentations.chances import check_probability
from openrayzer.interfaces import AUGMENTATIONS, Augmentation, Clip


@AUGMENTATIONS.register("time_reversal")
class TimeReversal(Augmentation):
    """The view axis reversed, for models that know the order of views.

    Images, frame numbers and cameras turn round together: a frame number still says which frame of the original
    sequence is there, so the numbers fall. Roles stay at their places: if the first view was context, it still is,
    and shows what was the last.

    Args:
        probability: of a reversal, one decision for each clip.
    """

    def __init__(self, *, probability: float = 0.5) -> None:
        check_probability("probability", probability)
        self.probability = probability

    def apply(self, clip: Clip, generator: np.random.Generator) -> Clip:
        if generator.random() >= self.probability:
            return clip
        clip = clip.with_images(_reversed)
        c2w, intrinsics = (None if values is None else _reversed(values) for values in (clip.c2w, clip.intrinsics))
        return replace(clip, frames=_reversed(clip.frames), c2w=c2w, intrinsics=intrinsics)


def _reversed(values: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(values[::-1])
