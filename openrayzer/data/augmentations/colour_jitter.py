"""Augmentation ``colour_jitter``: brightness, contrast, saturation and hue of a whole clip."""

from collections.abc import Callable
from functools import partial

import cv2
import numpy as np
from einops import rearrange

from openrayzer.data.augmentations.random_changes import RandomChange
from openrayzer.interfaces import AUGMENTATIONS, Clip, InputError

Change = Callable[[np.ndarray], np.ndarray]

_LUMA = np.array([0.2989, 0.587, 0.114], np.float32)


@AUGMENTATIONS.register("colour_jitter")
class ColourJitter(RandomChange):
    """Brightness, contrast, saturation and hue changed by random amounts and in random order, the same for all views.

    Equal colours in different views stay equal. The parameters are the same as in torchvision's ColorJitter, but
    contrast is relative to the mean grey of the clip instead of each image.

    Args:
        brightness: the factor is drawn from max(0, 1 - brightness) to 1 + brightness.
        contrast: like ``brightness``.
        saturation: like ``brightness``.
        hue: the hue is shifted by -hue to hue, as a share of the colour circle; at most 0.5.
        probability: probability that a clip is changed.

    Raises:
        InputError: an argument is out of range.

    Source: torchvision's ColorJitter, with the defaults of XFactor.
    """

    def __init__(
        self,
        *,
        brightness: float = 0.2,
        contrast: float = 0.2,
        saturation: float = 0.2,
        hue: float = 0.05,
        probability: float = 0.9,
    ) -> None:
        super().__init__(probability)
        if min(brightness, contrast, saturation) < 0 or not 0 <= hue <= 0.5:
            raise InputError("brightness, contrast and saturation must be 0 or more, hue from 0 to 0.5")
        self.brightness, self.contrast, self.saturation, self.hue = brightness, contrast, saturation, hue

    def change(self, clip: Clip, generator: np.random.Generator) -> Clip:
        factors = [_factor(amount, generator) for amount in (self.brightness, self.contrast, self.saturation)]
        turn = float(generator.uniform(-self.hue, self.hue))
        for number in generator.permutation(4).tolist():
            clip = clip.with_images(_colour_change(number, clip.images, factors, turn))
        return clip


def _factor(amount: float, generator: np.random.Generator) -> float:
    return float(generator.uniform(max(0, 1 - amount), 1 + amount))


def _colour_change(number: int, images: np.ndarray, factors: list[float], turn: float) -> Change:
    """Change ``number`` as a function of single colours, independent of the image."""
    if number == 0:
        return partial(_blend, factor=factors[0], other=lambda images: np.zeros(1, np.float32))
    if number == 1:
        grey = _grey(images).mean(keepdims=True)
        return partial(_blend, factor=factors[1], other=lambda images: grey)
    if number == 2:
        return partial(_blend, factor=factors[2], other=_grey)
    return partial(_turn_hue, turn=turn)


def _blend(images: np.ndarray, *, factor: float, other: Change) -> np.ndarray:
    """Interpolate between ``other(images)`` (factor 0) and ``images`` (factor 1), or extrapolate."""
    if factor == 1:
        return images
    start = other(images)
    return np.clip(start + np.float32(factor) * (images - start), 0, 1)


def _grey(images: np.ndarray) -> np.ndarray:
    return np.einsum("vchw,c->vhw", images, _LUMA)[:, None]


def _turn_hue(images: np.ndarray, *, turn: float) -> np.ndarray:
    if turn == 0:
        return images
    height = images.shape[2]
    colours = cv2.cvtColor(np.ascontiguousarray(rearrange(images, "v c h w -> (v h) w c")), cv2.COLOR_RGB2HSV)
    colours[..., 0] = (colours[..., 0] + np.float32(360 * turn)) % 360
    turned = np.clip(cv2.cvtColor(colours, cv2.COLOR_HSV2RGB), 0, 1)
    return np.ascontiguousarray(rearrange(turned, "(v h) w c -> v c h w", h=height))
