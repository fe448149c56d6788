"""Exposure of the frames of a video: gain, white balance and contrast that change from frame to frame."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8

from openrayzer.data.synthetic_rooms.motions import wave

_JUMPING = 0.25
"""Share of the videos with changing exposure in which the exposure jumps once."""


@dataclass(frozen=True)
class Exposure:
    """How a camera turns light into the colours of a frame.

    Attributes:
        gain: factor on the display values of red, green and blue, before they are clipped to [0, 1].
        gamma: power of the clipped display values.
    """

    gain: Float[np.ndarray, " 3"]
    gamma: float

    @property
    def table(self) -> UInt8[np.ndarray, " 256"]:
        """The value for each value without ``gamma``."""
        return (255 * (np.arange(256) / 255) ** self.gamma + 0.5).astype(np.uint8)


CONSTANT = Exposure(np.ones(3), 1.0)


def exposures(generator: np.random.Generator, *, num_frames: int, changing: bool) -> list[Exposure]:
    """The exposure of each frame.

    With ``changing``, the gain drifts by 0.1 to 0.4 stops in light (a stop is a factor of 2), red and blue by up to 4 %
    of the display value, and gamma by 5 %; in a quarter of the videos, the gain also jumps by 0.3 to 0.7 stops.
    """
    if not changing:
        return [CONSTANT] * num_frames
    time = np.arange(num_frames)
    stops = wave(generator, time, generator.uniform(0.1, 0.4))
    if generator.uniform() < _JUMPING:
        size = generator.choice([-1, 1]) * generator.uniform(0.3, 0.7)
        stops = stops + size * (time >= generator.integers(num_frames))
    balance = generator.uniform(-0.04, 0.04) * np.array([1, 0, -1]) + wave(generator, time, 0.02)[:, None] * [1, 0, -1]
    gains = 2 ** (stops[:, None] / 2.2) * (1 + balance)  # light to the power 1 / 2.2 gives display values
    gammas = 1 + wave(generator, time, 0.035)
    return [Exposure(gain, float(gamma)) for gain, gamma in zip(gains, gammas, strict=True)]
