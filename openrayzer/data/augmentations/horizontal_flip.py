"""Augmentation: a mirrored world."""

from dataclasses import replace

import numpy as np

from openrayzer.data.augmentations.chances import check_probability
from openrayzer.interfaces import AUGMENTATIONS, Augmentation, Clip

_MIRROR = np.diag(np.array([-1, 1, 1, 1], np.float32))


@AUGMENTATIONS.register("horizontal_flip")
class HorizontalFlip(Augmentation):
    """All views of a clip mirrored left to right, with the cameras of the mirrored world.

    A pose E becomes R E R with R = diag(-1, 1, 1, 1), and a principal point cx becomes 1 - cx.

    Args:
        probability: of a flip, one decision for each clip.

    Source: pixelSplat's augmentation, which leaves the principal point where it was.
    """

    def __init__(self, *, probability: float = 0.5) -> None:
        check_probability("probability", probability)
        self.probability = probability

    def apply(self, clip: Clip, generator: np.random.Generator) -> Clip:
        if generator.random() >= self.probability:
            return clip
        clip = clip.with_images(lambda images: np.ascontiguousarray(images[..., ::-1]))
        c2w = None if clip.c2w is None else _MIRROR @ clip.c2w @ _MIRROR
        intrinsics = clip.intrinsics
        if intrinsics is not None:
            focal_x, focal_y, centre_x, centre_y = intrinsics.T
            intrinsics = np.stack([focal_x, focal_y, 1 - centre_x, centre_y], axis=1)
        return replace(clip, c2w=c2w, intrinsics=intrinsics)
