"""View samplers that need only the length of a scene, and evenly spaced choices."""

import numpy as np

from openrayzer.data.sampling.view_roles import NumViews, Order, Roles, RoleSampler, Split
from openrayzer.interfaces import VIEW_SAMPLERS, InputError, UnusableSceneError, ViewChoice, ViewSampler


@VIEW_SAMPLERS.register("window")
class Window(RoleSampler):
    """A window of random length and position; its ends are context, the other views are random frames between them.

    The distance from the first to the last frame is uniform over the whole numbers from ``min_frame_distance`` to
    ``max_frame_distance`` that fit the scene. The position of the window is uniform, and the inner views are drawn
    without replacement.

    A number of views may be a range, ``[smallest, largest]``: one number is then drawn for each optimizer step, for all
    its clips on all ranks.

    Args:
        num_context: number of context views, 1 or more; or a range.
        num_target: number of target views, 1 or more; or a range.
        min_frame_distance: shortest distance in frames from the first to the last view; at least
            num_context + num_target - 1.
        max_frame_distance: longest distance in frames from the first to the last view.
        split: "rayzer": the ends are context, the roles of the other views are random, and no target is context (one
            context view may be any view). "lvsm": the ends are context, and targets are drawn from all views,
            including context views. "random": context views are drawn from all views, and no target is context.
        order: order of the views in the batch: "temporal", or "shuffled" for a random order.

    Raises:
        InputError: the numbers of views and the distances do not fit.
    """

    def __init__(
        self,
        *,
        num_context: NumViews,
        num_target: NumViews,
        min_frame_distance: int,
        max_frame_distance: int,
        split: Split = "rayzer",
        order: Order = "temporal",
    ) -> None:
        self.roles = Roles(num_context, num_target, split, order)
        views = self.roles.largest.views
        if min_frame_distance < views - 1:
            raise InputError(
                f"min_frame_distance {min_frame_distance} fits {max(0, min_frame_distance) + 1} views; "
                f"{self.roles.largest.context} context and {self.roles.largest.target} target views need at least "
                f"{views - 1}"
            )
        if max_frame_distance < min_frame_distance:
            raise InputError(
                f"max_frame_distance {max_frame_distance} is below min_frame_distance {min_frame_distance}"
            )
        self.num_context, self.num_target = num_context, num_target
        self.min_frame_distance, self.max_frame_distance = min_frame_distance, max_frame_distance

    def distances(self, step: int) -> tuple[int, int]:
        """Shortest and longest distance in frames from the first to the last view at an optimizer step."""
        return self.min_frame_distance, self.max_frame_distance

    def sample(self, key: str, num_frames: int, generator: np.random.Generator, step: int = 0) -> ViewChoice:
        shortest, longest = self.distances(step)
        if num_frames - 1 < shortest:
            raise UnusableSceneError(
                f"scene {key!r} has {num_frames} frames; a distance of at least {shortest} needs {shortest + 1}"
            )
        counts = self.roles.draw(generator)
        distance = int(generator.integers(shortest, min(longest, num_frames - 1) + 1))
        start = int(generator.integers(num_frames - distance))
        inner = generator.choice(distance - 1, counts.views - 2, replace=False) + start + 1
        return self.roles.assign((start, start + distance), inner, counts, generator)


@VIEW_SAMPLERS.register("window_curriculum")
class WindowCurriculum(Window):
    """A window with distances that grow linearly with the optimizer step and then stay constant.

    ``published_windows`` has the schedules of published papers.

    Args:
        num_context: number of context views, 1 or more; or [smallest, largest], see ``window``.
        num_target: number of target views, 1 or more; or [smallest, largest].
        start_min_frame_distance: shortest distance in frames at step 0; at least num_context + num_target - 1.
        start_max_frame_distance: longest distance in frames at step 0.
        min_frame_distance: shortest distance from step ``curriculum_steps`` on; at least that of step 0.
        max_frame_distance: longest distance from step ``curriculum_steps`` on; at least that of step 0.
        curriculum_steps: optimizer steps until the distances stop growing.
        split: "rayzer", "lvsm" or "random"; see ``window``.
        order: "temporal" or "shuffled"; see ``window``.

    Raises:
        InputError: the numbers of views and the distances do not fit.
    """

    def __init__(
        self,
        *,
        num_context: NumViews,
        num_target: NumViews,
        start_min_frame_distance: int,
        start_max_frame_distance: int,
        min_frame_distance: int,
        max_frame_distance: int,
        curriculum_steps: int,
        split: Split = "rayzer",
        order: Order = "temporal",
    ) -> None:
        self.start = Window(
            num_context=num_context,
            num_target=num_target,
            min_frame_distance=start_min_frame_distance,
            max_frame_distance=start_max_frame_distance,
        )
        super().__init__(
            num_context=num_context,
            num_target=num_target,
            min_frame_distance=min_frame_distance,
            max_frame_distance=max_frame_distance,
            split=split,
            order=order,
        )
        if min_frame_distance < start_min_frame_distance or max_frame_distance < start_max_frame_distance:
            raise InputError(
                "the distances must not shrink: min_frame_distance and max_frame_distance must be at least "
                "start_min_frame_distance and start_max_frame_distance"
            )
        if curriculum_steps < 1:
            raise InputError(f"curriculum_steps must be 1 or more, got {curriculum_steps}")
        self.curriculum_steps = curriculum_steps

    def distances(self, step: int) -> tuple[int, int]:
        progress = min(1.0, step / self.curriculum_steps)
        pairs = zip(self.start.distances(step), super().distances(step), strict=True)
        shortest, longest = (int(begin + progress * (end - begin)) for begin, end in pairs)
        return shortest, longest

    def difficulty(self, step: int) -> dict[str, int]:
        shortest, longest = self.distances(step)
        return {"min_frame_distance": shortest, "max_frame_distance": longest}


@VIEW_SAMPLERS.register("random")
class Random(RoleSampler):
    """Frames drawn without replacement from the whole scene or from a random span of it.

    Args:
        num_context: number of context views, 1 or more; or [smallest, largest], drawn for each optimizer step.
        num_target: number of target views, 1 or more; or [smallest, largest].
        span: distance in frames from the first to the last frame of the span; None for the whole scene.
        split: "random": context views are drawn from all views, and no target is context. "rayzer" and "lvsm": the
            first and the last of the drawn frames are context; see ``window``.
        order: order of the views in the batch: "temporal", or "shuffled" for a random order.

    Raises:
        InputError: the views do not fit into the span.
    """

    def __init__(
        self,
        *,
        num_context: NumViews,
        num_target: NumViews,
        span: int | None = None,
        split: Split = "random",
        order: Order = "temporal",
    ) -> None:
        self.roles = Roles(num_context, num_target, split, order)
        views = self.roles.largest.views
        if span is not None and span < views - 1:
            raise InputError(f"span {span} fits {max(0, span) + 1} of {views} views; it must be at least {views - 1}")
        self.num_context, self.num_target, self.span = num_context, num_target, span

    def sample(self, key: str, num_frames: int, generator: np.random.Generator, step: int = 0) -> ViewChoice:
        counts = self.roles.draw(generator)
        span = num_frames - 1 if self.span is None else self.span
        if not counts.views - 1 <= span <= num_frames - 1:
            needed = max(span, counts.views - 1) + 1
            raise UnusableSceneError(
                f"scene {key!r} has {num_frames} frames; {counts.views} random views need {needed}"
            )
        start = int(generator.integers(num_frames - span))
        frames = np.sort(generator.choice(span + 1, counts.views, replace=False)) + start
        return self.roles.assign(frames[[0, -1]], frames[1:-1], counts, generator)


@VIEW_SAMPLERS.register("all")
class AllFrames(ViewSampler):
    """Every frame of the scene, for evaluation and videos: evenly spaced frames are context, all others are targets.

    Args:
        num_context: number of context views, 1 or more. With 2 or more, the first and the last frame are context.
    """

    def __init__(self, *, num_context: int) -> None:
        _check_counts(num_context, 1)
        self.num_context = num_context

    def sample(self, key: str, num_frames: int, generator: np.random.Generator, step: int = 0) -> ViewChoice:
        if num_frames <= self.num_context:
            raise UnusableSceneError(
                f"scene {key!r} has {num_frames} frames; {self.num_context} context views and a target need "
                f"{self.num_context + 1}"
            )
        context = _even_steps(self.num_context, num_frames - 1)
        return ViewChoice(tuple(context), tuple(sorted({*range(num_frames)} - {*context})))


@VIEW_SAMPLERS.register("even")
class Even(ViewSampler):
    """Evenly spaced frames, always the same; context views are evenly spaced among them.

    Args:
        num_context: number of context views, 1 or more. With 2 or more, the first and the last view are context.
        num_target: number of target views, 1 or more.
        span: distance in frames from the first to the last view, centred in the scene; None for the whole scene.

    Raises:
        InputError: the views do not fit into the span.
    """

    def __init__(self, *, num_context: int, num_target: int, span: int | None = None) -> None:
        _check_counts(num_context, num_target)
        if span is not None and span < num_context + num_target - 1:
            views = num_context + num_target
            raise InputError(f"span {span} fits {max(0, span) + 1} of {views} views; it must be at least {views - 1}")
        self.num_context, self.num_target, self.span = num_context, num_target, span

    def sample(self, key: str, num_frames: int, generator: np.random.Generator, step: int = 0) -> ViewChoice:
        views = self.num_context + self.num_target
        span = num_frames - 1 if self.span is None else self.span
        if not views - 1 <= span <= num_frames - 1:
            needed = max(span, views - 1) + 1
            raise UnusableSceneError(
                f"scene {key!r} has {num_frames} frames; {views} evenly spaced views need {needed}"
            )
        start = (num_frames - 1 - span) // 2
        frames = [start + step for step in _even_steps(views, span)]
        context = set(_even_steps(self.num_context, views - 1))
        return ViewChoice(
            tuple(frame for view, frame in enumerate(frames) if view in context),
            tuple(frame for view, frame in enumerate(frames) if view not in context),
        )


def spread(values: list[int], count: int) -> list[int]:
    """At most ``count`` of the values, evenly spaced, including the first and the last."""
    if len(values) <= count:
        return values
    return [values[round(place)] for place in np.linspace(0, len(values) - 1, count)]


def _even_steps(count: int, last: int) -> list[int]:
    """``count`` different whole numbers from 0 to ``last``, evenly spaced; halves are rounded up."""
    gaps = max(1, count - 1)
    return [(2 * step * last + gaps) // (2 * gaps) for step in range(count)]


def _check_counts(num_context: int, num_target: int) -> None:
    if num_context < 1 or num_target < 1:
        raise InputError(f"num_context and num_target must be 1 or more, got {num_context} and {num_target}")
