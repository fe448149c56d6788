"""View sampler ``published_windows``: growing windows with the frame distances of published papers."""

from dataclasses import dataclass
from typing import Literal

from openrayzer.data.sampling.view_roles import NumViews, Order, Split, bounds
from openrayzer.data.sampling.view_samplers import WindowCurriculum
from openrayzer.interfaces import VIEW_SAMPLERS, InputError

Name = Literal[
    "rayzer_dl3dv", "rayzer_re10k", "rayzer_objaverse", "xfactor_re10k", "xfactor_dl3dv", "xfactor_mvimgnet",
    "xfactor_co3d", "pixelsplat_re10k",
]  # fmt: skip


@dataclass(frozen=True)
class PublishedDistances:
    """A paper's distances in frames from the first to the last view, at the start and at the end.

    Attributes:
        start: shortest and longest distance at step 0; None for the shortest one that fits the views.
        end: shortest and longest distance from step ``steps`` on; None as in ``start``.
        steps: optimizer steps until the distances stop growing; None where the paper states no number.
    """

    start: tuple[int | None, int]
    end: tuple[int | None, int]
    steps: int | None


PUBLISHED: dict[Name, PublishedDistances] = {
    "rayzer_dl3dv": PublishedDistances((48, 64), (64, 96), 30_000),
    "rayzer_re10k": PublishedDistances((96, 128), (128, 192), None),
    "rayzer_objaverse": PublishedDistances((24, 32), (48, 65), None),
    "xfactor_re10k": PublishedDistances((None, 40), (None, 100), 50_000),
    "xfactor_dl3dv": PublishedDistances((None, 5), (None, 10), 50_000),
    "xfactor_mvimgnet": PublishedDistances((None, 5), (None, 10), 50_000),
    "xfactor_co3d": PublishedDistances((None, 9), (None, 20), 50_000),
    "pixelsplat_re10k": PublishedDistances((25, 25), (25, 45), 150_000),
}


@VIEW_SAMPLERS.register("published_windows")
class PublishedWindows(WindowCurriculum):
    """``window_curriculum`` with the frame distances of a paper.

    The schedules, as shortest..longest distance at step 0 -> the same at the end, and the number of steps:

        rayzer_dl3dv       48..64  -> 64..96      30,000 (16 context and 8 target views)
        rayzer_re10k       96..128 -> 128..192    not stated
        rayzer_objaverse   24..32  -> 48..65      not stated
        xfactor_re10k      ..40    -> ..100       50,000
        xfactor_dl3dv      ..5     -> ..10        50,000, as xfactor_mvimgnet
        xfactor_co3d       ..9     -> ..20        50,000
        pixelsplat_re10k   25      -> 25..45      150,000

    A schedule without a shortest distance uses num_context + num_target - 1, the shortest distance that fits the views.

    Args:
        schedule: name of the schedule.
        num_context: number of context views, 1 or more; or [smallest, largest], see ``window``.
        num_target: number of target views, 1 or more; or [smallest, largest].
        curriculum_steps: optimizer steps until the distances stop growing; None for the paper's number.
        split: "rayzer", "lvsm" or "random"; see ``window``.
        order: "temporal" or "shuffled"; see ``window``.

    Raises:
        InputError: ``curriculum_steps`` is None and the paper states no number, or the windows do not fit the views.

    Source: RayZer's released configuration (DL3DV) and paper; XFactor's training code; pixelSplat's configuration.
    """

    def __init__(
        self,
        *,
        schedule: Name,
        num_context: NumViews,
        num_target: NumViews,
        curriculum_steps: int | None = None,
        split: Split = "rayzer",
        order: Order = "temporal",
    ) -> None:
        published = PUBLISHED[schedule]
        steps = published.steps if curriculum_steps is None else curriculum_steps
        if steps is None:
            raise InputError(f"the paper of {schedule} states no number of steps; set curriculum_steps")
        least = bounds(num_context)[1] + bounds(num_target)[1] - 1
        (start_min, start_max), (end_min, end_max) = published.start, published.end
        super().__init__(
            num_context=num_context,
            num_target=num_target,
            start_min_frame_distance=least if start_min is None else start_min,
            start_max_frame_distance=start_max,
            min_frame_distance=least if end_min is None else end_min,
            max_frame_distance=end_max,
            curriculum_steps=steps,
            split=split,
            order=order,
        )
        self.schedule = schedule
