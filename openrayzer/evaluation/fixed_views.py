"""The same frames of every scene."""

import numpy as np

from openrayzer.interfaces import InputError, UnusableSceneError, ViewChoice, ViewSampler


class FixedViews(ViewSampler):
    """The same frames of every scene, counted from its first.

    Args:
        context: frames that are given to the model.
        target: frames that are rendered.
    """

    def __init__(self, *, context: tuple[int, ...], target: tuple[int, ...]) -> None:
        if not context or not target or min(*context, *target) < 0:
            raise InputError(f"fixed views need frame numbers from 0 on, got context {context} and target {target}")
        self.choice = ViewChoice(context, target)

    def sample(self, key: str, num_frames: int, generator: np.random.Generator, step: int = 0) -> ViewChoice:
        last = max(self.choice.frames)
        if num_frames <= last:
            raise UnusableSceneError(f"scene {key!r} has {num_frames} frames, views up to frame {last} need {last + 1}")
        return self.choice
