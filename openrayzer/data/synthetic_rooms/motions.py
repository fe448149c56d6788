"""Motions of a hand-held camera: how it moves over the floor and turns, before it is placed in a room."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

Motion = Literal["turn", "arc", "forward", "sideways", "walk", "back_and_forth"]
"""Kinds of motion; ``back_and_forth`` is any of the others with reversals."""


@dataclass(frozen=True)
class Course:
    """How far a camera has come on its path at each frame, and how fast it goes.

    Attributes:
        generator: source of all randomness.
        progress: distance covered until each frame, in frames at mean speed; 0 in the middle of the path.
        pace: speed; 1 is the middle of the range.
        view: extent of the picture's longer side at a depth of 1.
    """

    generator: np.random.Generator
    progress: Float[np.ndarray, " f"]
    pace: float
    view: float

    @property
    def angle(self) -> float:
        """Field of view along the longer side in radians."""
        return 2 * float(np.arctan(self.view / 2))

    def sign(self) -> int:
        """-1 or 1, equally likely."""
        return int(self.generator.choice([-1, 1]))


@dataclass(frozen=True)
class FloorPath:
    """Floor positions around 0 in metres, viewing directions (yaw) in radians, and strength of the hand's shake."""

    floor: Float[np.ndarray, "f 2"]
    yaw: Float[np.ndarray, " f"]
    shake: float = 1.0


def turn(course: Course) -> FloorPath:
    """The camera turns about a person who stands still, at arm's length."""
    yaw = course.sign() * 0.04 * course.angle * course.pace * course.progress
    arm, side = course.generator.uniform((0.15, -1.2), (0.5, 1.2))
    return FloorPath(arm * _direction(yaw + side), yaw)


def arc(course: Course) -> FloorPath:
    """The camera circles around a point ahead, looks at it, and comes nearer or goes away."""
    yaw = course.sign() * 0.05 * np.sqrt(course.view) * course.pace * course.progress
    distance, approach = course.generator.uniform((0.9, -0.6), (2.2, 0.6))
    return FloorPath(-distance * np.exp(approach * yaw)[:, None] * _direction(yaw), yaw)


def forward(course: Course) -> FloorPath:
    """The camera moves forwards or backwards and turns a little."""
    heading = course.generator.uniform(-0.5, 0.5) + np.pi * course.generator.integers(2)
    return _straight(course, heading, step=0.06)


def sideways(course: Course) -> FloorPath:
    """The camera moves across its line of sight and turns a little."""
    heading = course.sign() * np.pi / 2 + course.generator.uniform(-0.6, 0.6)
    return _straight(course, heading, step=0.06 * course.view)


def walk(course: Course) -> FloorPath:
    """A person walks on a winding line and looks around; the camera shakes more."""
    generator, progress, strength = course.generator, course.progress, min(1.0, course.pace)
    yaw = wave(generator, progress, 0.4 * course.angle * strength)
    heading = generator.uniform(0, 2 * np.pi) + wave(generator, progress, 0.8) + yaw
    steps = np.gradient(progress)[:, None] if len(progress) > 1 else np.zeros((1, 1))
    floor = np.cumsum(0.055 * np.sqrt(course.view) * course.pace * steps * _direction(heading), axis=0)
    return FloorPath(floor, yaw, shake=2.5)


def _straight(course: Course, heading: float, *, step: float) -> FloorPath:
    """A straight line with ``step`` metres per frame at a pace of 1; the camera turns evenly."""
    yaw = course.generator.uniform(-1, 1) * 0.04 * course.angle * course.pace * course.progress
    floor = step * course.pace * course.progress[:, None] * _direction(np.asarray(heading))
    return FloorPath(floor, yaw)


MOTIONS: dict[str, Callable[[Course], FloorPath]] = {
    motion.__name__: motion for motion in (turn, arc, forward, sideways, walk)
}
"""The motions by name."""


def wave(generator: np.random.Generator, time: np.ndarray, size: float) -> Float[np.ndarray, " f"]:
    """A sum of three slow waves with periods of 10 to 40 frames and amplitudes that add up to 1.5 ``size``."""
    periods, phases = generator.uniform(10, 40, 3), generator.uniform(0, 2 * np.pi, 3)
    weights = generator.uniform(0.3, 1.0, 3)
    return size * np.sin(2 * np.pi * time[:, None] / periods + phases) @ weights / weights.sum() * 1.5


def _direction(yaw: np.ndarray) -> Float[np.ndarray, "*f 2"]:
    return np.stack([np.cos(yaw), np.sin(yaw)], axis=-1)
