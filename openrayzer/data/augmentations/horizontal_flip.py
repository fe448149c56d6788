"""Augmentation ``horizontal_flip``: clips mirrored left to right."""

from dataclasses import replace

import numpy as np

from openrayzer.data.augmentations.random_changes import RandomChange
from openrayzer.interfaces import AUGMENTATIONS, Clip

_MIRROR = np.diag(np.array([-1, 1, 1, 1], np.float32))


@AUGMENTATIONS.register("horizontal_flip")
class HorizontalFlip(RandomChange):
    """All views of a clip mirrored left to right, with the cameras of the mirrored world.

    A pose E becomes R E R with R = diag(-1, 1, 1, 1), and a principal point cx becomes 1 - cx.

    Args:
        probability: probability that a clip is mirrored.

    Source: pixelSplat's augmentation, except that pixelSplat does not move the principal point.
    """

    def __init__(self, *, probability: float = 0.5) -> None:
        super().__init__(probability)

    def change(self, clip: Clip, generator: np.random.Generator) -> Clip:
        clip = clip.with_images(lambda images: np.ascontiguousarray(images[..., ::-1]))
        c2w = None if clip.c2w is None else _MIRROR @ clip.c2w @ _MIRROR
        intrinsics = clip.intrinsics
        if intrinsics is not None:
            focal_x, focal_y, centre_x, centre_y = intrinsics.T
            intrinsics = np.stack([focal_x, focal_y, 1 - centre_x, centre_y], axis=1)
        return replace(clip, c2w=c2w, intrinsics=intrinsics)
