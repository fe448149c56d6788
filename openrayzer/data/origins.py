"""Where a scene came from and when its frames were taken, for those sources that know."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np


@dataclass(frozen=True)
class Origin:
    """What the chunk format keeps of a scene beside images and cameras.

    Attributes:
        url: where the scene came from; empty where nobody knows.
        timestamps: (f,) int64, one for each frame, in microseconds by custom; empty where nobody knows.
    """

    url: str
    timestamps: np.ndarray


@runtime_checkable
class KnowsOrigin(Protocol):
    """A dataset that knows where its scenes came from."""

    def origin(self, scene: int) -> Origin:
        """The origin of a scene.

        Raises:
            BrokenSceneError: the scene cannot be used.
        """
