"""View sampler ``overlap_curriculum``: windows with a length that gives the wanted visual overlap in each scene."""

from pathlib import Path

import numpy as np

from openrayzer.data.sampling.overlap_tables import read_overlap_tables
from openrayzer.data.sampling.view_roles import NumViews, Order, Roles, RoleSampler, Split
from openrayzer.interfaces import VIEW_SAMPLERS, InputError, UnusableSceneError, ViewChoice


@VIEW_SAMPLERS.register("overlap_curriculum")
class OverlapCurriculum(RoleSampler):
    """A window with a random overlap of neighbouring context views; its lower bound falls during training.

    A scene with a fast camera gets short windows, a scene with a slow camera long ones. The sampler draws an overlap
    between the current lower bound and ``max_overlap`` and looks up in the scene's table how many frames apart two
    views with this overlap are. The window is num_context - 1 such intervals long, or longer if its views need more
    frames. Its position is random; its first and last frame are views, the other views are random frames between them.

    A scene is used only while its closest frames overlap by at least the drawn amount. For videos with few frames per
    second, lower ``max_overlap`` and ``start_min_overlap`` to the first values of the tables.

    E-RayZer trains for 86,000 steps with 5 context and 5 target views. It uses min_overlap 0.5 for geometric overlap
    (covisibility) and 0.75 for semantic overlap (cosine of features), with equal results; frame distance
    (``window_curriculum``) is slightly worse.

    Args:
        num_context: number of context views, 2 or more; or [smallest, largest], drawn for each optimizer step.
        num_target: number of target views, 1 or more; or [smallest, largest].
        table: a JSON file {scene: {interval in frames: overlap}}, written by ``openrayzer prepare overlap``; or
            E-RayZer's folder of <scene>/covisibility.json.
        min_overlap: lower bound of the overlap from step ``curriculum_steps`` on.
        max_overlap: upper bound of the overlap at every step.
        start_min_overlap: lower bound of the overlap at step 0; not below ``min_overlap``.
        curriculum_steps: optimizer steps until the lower bound stops falling.
        tolerance: largest distance of the drawn overlap from the range of overlaps in a scene's table.
        split: "rayzer", "lvsm" or "random"; see ``window``.
        order: "temporal" or "shuffled"; see ``window``.

    Raises:
        InputError: an argument is out of range, or the table cannot be read.

    Source: E-RayZer, section "visual overlap curriculum", and its training code.
    """

    def __init__(
        self,
        *,
        num_context: NumViews,
        num_target: NumViews,
        table: Path | str,
        min_overlap: float = 0.5,
        max_overlap: float = 1.0,
        start_min_overlap: float = 1.0,
        curriculum_steps: int = 86_000,
        tolerance: float = 0.05,
        split: Split = "rayzer",
        order: Order = "temporal",
    ) -> None:
        self.roles = Roles(num_context, num_target, split, order)
        if self.roles.smallest.context < 2:
            raise InputError(f"num_context must be 2 or more, got {num_context}")
        if not 0 <= min_overlap <= start_min_overlap <= max_overlap <= 1:
            raise InputError(
                "0 <= min_overlap <= start_min_overlap <= max_overlap <= 1 must hold, got "
                f"{min_overlap}, {start_min_overlap} and {max_overlap}"
            )
        if curriculum_steps < 1 or tolerance < 0:
            raise InputError("curriculum_steps must be 1 or more, tolerance 0 or more")
        self.num_context, self.num_target, self.table = num_context, num_target, Path(table)
        self.min_overlap, self.max_overlap, self.start_min_overlap = min_overlap, max_overlap, start_min_overlap
        self.curriculum_steps, self.tolerance = curriculum_steps, tolerance
        self.curves = read_overlap_tables(self.table)

    def lower_bound(self, step: int) -> float:
        """Smallest overlap that may be drawn at an optimizer step."""
        progress = min(1.0, step / self.curriculum_steps)
        return self.start_min_overlap + progress * (self.min_overlap - self.start_min_overlap)

    def difficulty(self, step: int) -> dict[str, float]:
        return {"overlap_lower_bound": self.lower_bound(step)}

    def sample(self, key: str, num_frames: int, generator: np.random.Generator, step: int = 0) -> ViewChoice:
        if key not in self.curves:
            raise UnusableSceneError(f"scene {key!r} is not in the overlap table {self.table}")
        counts = self.roles.draw(generator)
        curve, overlap = self.curves[key], float(generator.uniform(self.lower_bound(step), self.max_overlap))
        interval = curve.interval(overlap, tolerance=self.tolerance)
        if interval is None:
            raise UnusableSceneError(
                f"scene {key!r} has no two views with overlap {overlap:.2f}: its table covers overlaps from "
                f"{curve.overlaps.max():.2f} to {curve.overlaps.min():.2f}"
            )
        distance = max(counts.views - 1, round((counts.context - 1) * interval))
        if num_frames - 1 < distance:
            raise UnusableSceneError(
                f"scene {key!r} has {num_frames} frames; overlap {overlap:.2f} of {counts.context} context views needs "
                f"{distance + 1}"
            )
        start = int(generator.integers(num_frames - distance))
        inner = generator.choice(distance - 1, counts.views - 2, replace=False) + start + 1
        return self.roles.assign((start, start + distance), inner, counts, generator)
