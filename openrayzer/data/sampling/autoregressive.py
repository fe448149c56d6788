"""View sampler ``autoregressive``: every view after the first is a target, and all views before it are its context."""

from copy import copy
from typing import Literal

import numpy as np

from openrayzer.data.sampling.view_roles import NumViews, bounds
from openrayzer.data.sampling.view_samplers import Window
from openrayzer.interfaces import VIEW_SAMPLERS, InputError, ViewChoice, ViewSampler


@VIEW_SAMPLERS.register("autoregressive")
class Autoregressive(ViewSampler):
    """Views in a random order; all but the last are context, and all but the first are targets.

    This is for models in which target i sees contexts 0 to i, such as ``rayder``: one clip of t views then trains with
    1 to t - 1 context views at once. Frames are chosen as by ``window``: both ends of the window, the others at random
    between them.

    Args:
        num_views: number of views of a clip, 2 or more: num_views - 1 context views and num_views - 1 target views. A
            range, [smallest, largest], is drawn from at each optimizer step.
        min_frame_distance: shortest distance from the first to the last frame; at least num_views - 1.
        max_frame_distance: longest distance from the first to the last frame.
        order: "random" makes poses that work with every subset of context views. "temporal" gives worse poses and is
            meant for comparisons.

    Source: RayDer, section "autoregressive pose training" and ablations F and G.
    """

    def __init__(
        self,
        *,
        num_views: NumViews,
        min_frame_distance: int,
        max_frame_distance: int,
        order: Literal["random", "temporal"] = "random",
    ) -> None:
        fewest, most = bounds(num_views)
        if fewest < 2:
            raise InputError(f"num_views must be 2 or more, got {num_views}")
        if most < fewest:
            raise InputError(f"num_views must be a number or (smallest, largest), got {num_views}")
        if min_frame_distance < most - 1:
            raise InputError(
                f"min_frame_distance {min_frame_distance} fits {max(0, min_frame_distance) + 1} of {most} views; it "
                f"must be at least {most - 1}"
            )
        num_context: NumViews = num_views - 1 if isinstance(num_views, int) else (fewest - 1, most - 1)
        self.window = Window(
            num_context=num_context,
            num_target=1,
            min_frame_distance=min_frame_distance,
            max_frame_distance=max_frame_distance,
        )
        self.num_context = self.num_target = num_context
        self.order = order

    def distances(self, step: int) -> tuple[int, int]:
        """Shortest and longest distance in frames from the first to the last view at an optimizer step."""
        return self.window.distances(step)

    def for_step(self, step: int, generator: np.random.Generator) -> "Autoregressive":
        fixed, window = copy(self), self.window.for_step(step, generator)
        assert isinstance(window, Window)
        fixed.window = window
        return fixed

    def sample(self, key: str, num_frames: int, generator: np.random.Generator, step: int = 0) -> ViewChoice:
        chosen = self.window.sample(key, num_frames, generator, step)
        frames = sorted(chosen.context + chosen.target)
        if self.order == "random":
            frames = generator.permutation(frames).tolist()
        return ViewChoice(tuple(frames[:-1]), tuple(frames[1:]))
