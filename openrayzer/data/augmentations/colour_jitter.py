"""Augmentation: other light, the same for the whole clip."""

from collections.abc import Callable
from functools import partial

import cv2
import numpy as np
from einops import rearrange

from openrayzer.data.augmentations.chances import check_probability
from openrayzer.interfaces import AUGMENTATIONS, Augmentation, Clip, InputError

Change = Callable[[np.ndarray], np.ndarray]

_LUMA = np.array([0.2989, 0.587, 0.114], np.float32)


@AUGMENTATIONS.register("colour_jitter")
class ColourJitter(Augmentation):
    """Brightness, contrast, saturation and hue changed by random amounts, in random order, constant over the clip.

    Contexts and targets change alike: a colour stays one colour in all views. The parameters mean what they mean in
    torchvision; contrast is about the mean grey of the clip instead of each image.

    Args:
        brightness: factor from 1 - brightness to 1 + brightness, from 0 on.
        contrast: the same.
        saturation: the same.
        hue: turn of the colour circle from -hue to hue; up to 0.5.
        probability: of any change, one decision for each clip.

    Source: torchvision's ColorJitter; the default amounts are XFactor's.
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
        check_probability("probability", probability)
        if min(brightness, contrast, saturation) < 0 or not 0 <= hue <= 0.5:
            raise InputError("brightness, contrast and saturation must be 0 or more, hue from 0 to 0.5")
        self.brightness, self.contrast, self.saturation, self.hue = brightness, contrast, saturation, hue
        self.probability = probability

    def apply(self, clip: Clip, generator: np.random.Generator) -> Clip:
        if generator.random() >= self.probability:
            return clip
        factors = [_factor(amount, generator) for amount in (self.brightness, self.contrast, self.saturation)]
        turn = float(generator.uniform(-self.hue, self.hue))
        for number in generator.permutation(4).tolist():
            clip = clip.with_images(_change(number, clip.images, factors, turn))
        return clip


def _factor(amount: float, generator: np.random.Generator) -> float:
    return float(generator.uniform(max(0, 1 - amount), 1 + amount))


def _change(number: int, images: np.ndarray, factors: list[float], turn: float) -> Change:
    """Change ``number`` as a function of one colour, whichever image it is in."""
    if number == 0:
        return partial(_blend, factor=factors[0], other=lambda images: np.zeros(1, np.float32))
    if number == 1:
        grey = _grey(images).mean(keepdims=True)
        return partial(_blend, factor=factors[1], other=lambda images: grey)
    if number == 2:
        return partial(_blend, factor=factors[2], other=_grey)
    return partial(_turn_hue, turn=turn)


def _blend(images: np.ndarray, *, factor: float, other: Change) -> np.ndarray:
    """Away from or towards the other image; a factor of 1 changes nothing."""
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
