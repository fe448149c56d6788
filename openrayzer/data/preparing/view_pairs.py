"""Creation of evaluation indices: context and target frames of each scene, in pixelSplat's format."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from openrayzer.data.loading.held_out_clips import scene_generator
from openrayzer.data.preparing.processes import parallel_results
from openrayzer.data.preparing.whole_scenes import SceneLength, scene_lengths
from openrayzer.interfaces import BrokenSceneError, Dataset, Frames, InputError
from openrayzer.machine.progress import with_progress

DEPTHS = (0.5, 1.0, 2.0, 4.0, 8.0)
"""Depths at which overlap is measured, relative to the extent of the cameras of a scene."""

_GRID = 12  # rays along each side of the image
_ATTEMPTS = 64  # choices tried per scene


@dataclass(frozen=True)
class PairRule:
    """Rule for the choice of context and target frames.

    Attributes:
        num_context: number of context frames, 2 or more, evenly spaced.
        num_target: number of target frames, drawn from the other frames between the first and last context frame.
        gap: smallest and largest distance between the first and the last context frame, in frames.
        overlap: smallest and largest overlap of the first and the last context frame, 0 to 1; None for any overlap,
            which needs no cameras.
        seed: seed of all choices.
    """

    num_context: int = 2
    num_target: int = 3
    gap: tuple[int, int] = (45, 135)
    overlap: tuple[float, float] | None = None
    seed: int = 0

    def check(self) -> None:
        """Raise InputError if the rule cannot fit any scene."""
        least = self.num_context + self.num_target - 1
        if self.num_context < 2 or self.num_target < 1:
            raise InputError(f"at least two context frames and one target frame are needed, got {self.num_context} "
                             f"and {self.num_target}")  # fmt: skip
        if not least <= self.gap[0] <= self.gap[1]:
            raise InputError(f"{self.num_context} context and {self.num_target} target frames need gaps of {least} or "
                             f"more, smallest first, got {self.gap[0]} and {self.gap[1]}")  # fmt: skip
        if self.overlap is not None and not 0 <= self.overlap[0] <= self.overlap[1] <= 1:
            raise InputError(
                f"overlaps must be from 0 to 1, smallest first, got {self.overlap[0]} and {self.overlap[1]}"
            )


Choice = dict[str, list[int] | float]


def make_pairs(dataset: Dataset, rule: PairRule, *, processes: int) -> tuple[dict[str, Choice | None], list[str]]:
    """Choose frames for each scene of an opened dataset; None for a scene without a fitting choice.

    Unreadable frames are never chosen. The choice for a scene depends only on its name, the seed and the rule.

    Returns:
        Scene name -> choice, and the problems of the dataset, one sentence each.

    Raises:
        InputError: the rule cannot fit any scene, or it restricts the overlap and the dataset has no cameras.
    """
    rule.check()
    if rule.overlap is not None and not dataset.posed:
        raise InputError("overlap needs cameras, and this source has none; leave out --overlap")
    problems = list(dataset.problems)
    scenes = scene_lengths(dataset, problems)
    chosen = parallel_results(partial(_choose, dataset, rule), scenes, processes=processes)
    pairs = {
        scene.key: choice for scene, choice in with_progress(chosen, total=len(scenes), unit="scenes", title="pairs")
    }
    return pairs, problems


def overlap(first: Frames, second: Frames, depths: Sequence[float]) -> float:
    """Share of the points of one camera that the other camera sees, the smaller value of both directions.

    The points lie on a grid of rays at the given depths. A camera sees a point if it lies in front of the camera and
    inside the image; occlusion is unknown. The first camera of each ``Frames`` is used.

    Args:
        first: one frame or more, with cameras.
        second: one frame or more, with cameras.
        depths: depths along the optical axis, in the units of the poses.
    """
    return min(_seen(first, second, depths), _seen(second, first, depths))


def _seen(viewer: Frames, other: Frames, depths: Sequence[float]) -> float:
    (c2w, intrinsics), (other_c2w, other_intrinsics) = _camera(viewer), _camera(other)
    sides = (np.arange(_GRID) + 0.5) / _GRID
    x, y, z = np.meshgrid(sides, sides, np.asarray(depths), indexing="ij")
    points = np.stack([(x - intrinsics[2]) / intrinsics[0] * z, (y - intrinsics[3]) / intrinsics[1] * z, z], axis=-1)
    world = points.reshape(-1, 3) @ c2w[:3, :3].T + c2w[:3, 3]
    seen = (world - other_c2w[:3, 3]) @ other_c2w[:3, :3]
    before = seen[:, 2] > 1e-9 * max(depths)
    depth = np.where(before, seen[:, 2], 1.0)
    u = seen[:, 0] / depth * other_intrinsics[0] + other_intrinsics[2]
    v = seen[:, 1] / depth * other_intrinsics[1] + other_intrinsics[3]
    return float((before & (u >= 0) & (u <= 1) & (v >= 0) & (v <= 1)).mean())


def _camera(frames: Frames) -> tuple[np.ndarray, np.ndarray]:
    assert frames.c2w is not None
    assert frames.intrinsics is not None
    return frames.c2w[0].astype(np.float64), frames.intrinsics[0].astype(np.float64)


def _choose(dataset: Dataset, rule: PairRule, scene: SceneLength) -> Choice | None:
    generator = scene_generator(rule.seed, scene.key)
    depths = _depths(dataset, scene) if rule.overlap is not None else []
    for first, last in _ends(rule, scene.num_frames, generator):
        if rule.overlap is not None:
            try:
                ends = dataset.read(scene.scene, [first]), dataset.read(scene.scene, [last])
            except BrokenSceneError:
                continue
            shared = overlap(*ends, depths)
            if not rule.overlap[0] <= shared <= rule.overlap[1]:
                continue
        choice = _between(rule, first, last, generator)
        try:
            dataset.read(scene.scene, [*choice["context"], *choice["target"]])
        except BrokenSceneError:
            continue
        return {**choice, "overlap": round(shared, 4)} if rule.overlap is not None else dict(choice)
    return None


def _ends(rule: PairRule, num_frames: int, generator: np.random.Generator) -> Iterator[tuple[int, int]]:
    longest = min(rule.gap[1], num_frames - 1)
    if longest < rule.gap[0]:
        return
    for _ in range(_ATTEMPTS):
        gap = int(generator.integers(rule.gap[0], longest + 1))
        first = int(generator.integers(0, num_frames - gap))
        yield first, first + gap


def _between(rule: PairRule, first: int, last: int, generator: np.random.Generator) -> dict[str, list[int]]:
    context = np.round(np.linspace(first, last, rule.num_context)).astype(int).tolist()
    free = sorted(set(range(first, last + 1)) - set(context))
    target = generator.choice(free, rule.num_target, replace=False)
    return {"context": context, "target": sorted(target.tolist())}


def _depths(dataset: Dataset, scene: SceneLength) -> list[float]:
    """``DEPTHS`` in the units of the scene, from a few of its cameras."""
    places = []
    for frame in np.unique(np.linspace(0, scene.num_frames - 1, 8).astype(int)).tolist():
        try:
            camera = dataset.read(scene.scene, [frame]).c2w
        except BrokenSceneError:
            continue
        assert camera is not None
        places.append(camera[0, :3, 3])
    span = float(np.linalg.norm(np.ptp(np.stack(places), axis=0))) if places else 0.0
    return [depth * (span or 1.0) for depth in DEPTHS]
