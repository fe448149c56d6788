"""Augmentations that change a clip with some probability, and a check of their parameters."""

from abc import abstractmethod

import numpy as np

from openrayzer.interfaces import Augmentation, Clip, InputError


class RandomChange(Augmentation):
    """An augmentation that changes a finished clip with some probability; a subclass implements ``change``.

    Args:
        probability: probability that a clip is changed.

    Raises:
        InputError: the probability is not from 0 to 1.
    """

    def __init__(self, probability: float) -> None:
        check_probability("probability", probability)
        self.probability = probability

    def apply(self, clip: Clip, generator: np.random.Generator) -> Clip:
        return self.change(clip, generator) if generator.random() < self.probability else clip

    @abstractmethod
    def change(self, clip: Clip, generator: np.random.Generator) -> Clip:
        """The changed clip; the arrays of ``clip`` may be shared and must not be written to."""


def check_probability(name: str, value: float) -> None:
    """Raise InputError unless ``value`` is from 0 to 1."""
    if not 0 <= value <= 1:
        raise InputError(f"{name} must be from 0 to 1, got {value}")


def check_range(name: str, values: tuple[float, float]) -> None:
    """Raise InputError unless ``values`` are a smallest and a largest value, above 0 and up to 1."""
    if not 0 < values[0] <= values[1] <= 1:
        raise InputError(f"{name} must be (smallest, largest), above 0 and up to 1, got {values}")
