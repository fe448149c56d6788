"""Augmentation ``time_reversal``: clips with the views in reversed order."""

from dataclasses import replace

import numpy as np

from openrayzer.data.augmentations.random_changes import RandomChange
from openrayzer.interfaces import AUGMENTATIONS, Clip


@AUGMENTATIONS.register("time_reversal")
class TimeReversal(RandomChange):
    """The view axis reversed, for models that use the order of views.

    Images, frame numbers and cameras are reversed together, so frame numbers still name the frames of the original
    sequence and decrease along the view axis. Roles keep their positions: if the first view was context, the first view
    of the reversed clip is context.

    Args:
        probability: probability that a clip is reversed.
    """

    def __init__(self, *, probability: float = 0.5) -> None:
        super().__init__(probability)

    def change(self, clip: Clip, generator: np.random.Generator) -> Clip:
        clip = clip.with_images(_reversed)
        c2w, intrinsics = (None if values is None else _reversed(values) for values in (clip.c2w, clip.intrinsics))
        return replace(clip, frames=_reversed(clip.frames), c2w=c2w, intrinsics=intrinsics)


def _reversed(values: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(values[::-1])
