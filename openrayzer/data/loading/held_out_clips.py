"""Held-out clips: every usable test scene once, with the same views in every pass."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from openrayzer.data.loading.clip_order import scene_generator
from openrayzer.data.loading.clips import collate, read_clip
from openrayzer.data.loading.loader import open_sources
from openrayzer.data.loading.numbered_batches import load_batches
from openrayzer.data.sampling.evaluation_index import EvaluationIndex
from openrayzer.interfaces import BrokenSceneError, Clip, Dataset, InputError, UnusableSceneError, ViewChoice
from openrayzer.settings import DataSettings, EvaluationSettings
from openrayzer.types import Views

Dealt = Literal["scenes", "batches"]
"""The unit that the ranks divide among them. "scenes" gives all ranks the same load. "batches" keeps the clips of each
batch together for any number of ranks."""

_NAMED = 3  # reasons that one message lists


@dataclass(frozen=True)
class SkippedScene:
    """A test scene that is not evaluated, and the reason."""

    scene: str
    reason: str


@dataclass(frozen=True)
class _Planned:
    dataset: Dataset
    scene: int
    choice: ViewChoice


class EvaluationClips:
    """The test clips of this rank, made by ``evaluation_views``. Every iteration gives the same batches.

    Attributes:
        expected: number of test scenes over all ranks, including skipped scenes.
        planned: number of scenes over all ranks that have a valid choice of views.
        skipped: scenes that are left out. Scenes skipped before reading are the same on every rank; a rank adds the
            broken scenes that it finds during reading.
        problems: faults of the sources found while opening them, one sentence each.
    """

    def __init__(
        self,
        settings: DataSettings,
        evaluation: EvaluationSettings,
        *,
        rank: int,
        world_size: int,
        dealt: Dealt,
        with_depth: bool = False,
    ) -> None:
        self._settings, self._with_depth = settings, with_depth
        self.problems = open_sources(settings.test)
        self.skipped: list[SkippedScene] = []
        plan = self._plan(evaluation)
        self.planned = len(plan)
        self.expected = len(plan) + len(self.skipped)
        self._choices = {planned.dataset.key(planned.scene): planned.choice for planned in plan}
        if settings.test and not plan:
            reasons = "; ".join(skipped.reason for skipped in self.skipped[:_NAMED])
            raise InputError(f"none of {self.expected} test scenes can be evaluated: {reasons}")
        self._batches = _share(plan, batch_size=evaluation.batch_size, rank=rank, world_size=world_size, dealt=dealt)

    def __len__(self) -> int:
        """Number of batches of this rank. An iteration skips a batch if all its scenes are broken."""
        return len(self._batches)

    def __iter__(self) -> Iterator[Views]:
        settings = self._settings
        load = _EvaluationBatch(settings, self._batches, with_depth=self._with_depth)
        numbers = range(len(self._batches))
        for batches, broken in load_batches(
            load, numbers=numbers, workers=settings.workers, prefetch=settings.prefetch
        ):
            self.skipped += [skipped for skipped in broken if skipped not in self.skipped]
            yield from batches

    @property
    def choices(self) -> Mapping[str, ViewChoice]:
        """Scene name -> chosen views, for all planned scenes of all ranks, in order."""
        return self._choices

    def index(self) -> dict[str, dict[str, list[int]] | None]:
        """The chosen views as a pixelSplat evaluation index; None for the scenes skipped until now."""
        index: dict[str, dict[str, list[int]] | None] = {
            key: {"context": list(choice.context), "target": list(choice.target)}
            for key, choice in self._choices.items()
        }
        return {**index, **{skipped.scene: None for skipped in self.skipped}}

    def _plan(self, evaluation: EvaluationSettings) -> list[_Planned]:
        """Choose views scene by scene, in order, up to ``max_scenes`` scenes."""
        plan: list[_Planned] = []
        seen: set[str] = set()
        scenes = ((source.dataset, scene) for source in self._settings.test for scene in range(len(source.dataset)))
        for dataset, scene in scenes:
            if evaluation.max_scenes and len(plan) == evaluation.max_scenes:
                return plan
            key = dataset.key(scene)
            try:
                if key in seen:
                    raise UnusableSceneError(f"scene {key!r} is in two test sources; the first is used")
                generator = scene_generator(evaluation.seed, key)
                choice = evaluation.view_sampler.sample(key, dataset.num_frames(scene), generator)
                plan.append(_Planned(dataset, scene, choice))
            except (BrokenSceneError, UnusableSceneError) as error:
                self.skipped.append(SkippedScene(key, str(error)))
            seen.add(key)
        if isinstance(evaluation.view_sampler, EvaluationIndex):
            sampler = evaluation.view_sampler
            absent = [key for key, choice in sampler.choices.items() if choice is not None and key not in seen]
            self.skipped += [
                SkippedScene(key, f"scene {key!r} of {sampler.path} is in no test source") for key in absent
            ]
        return plan


def evaluation_views(
    settings: DataSettings,
    evaluation: EvaluationSettings,
    *,
    rank: int = 0,
    world_size: int = 1,
    dealt: Dealt = "scenes",
    with_depth: bool = False,
) -> EvaluationClips:
    """Held-out clips of one rank. Exactly one rank gets each usable test scene; no scene replaces another.

    The views of a scene depend only on ``evaluation.seed`` and the scene's name. All clips of a batch have equal
    numbers of views, and all or none of them have cameras. They have true depth only ``with_depth``.

    Raises:
        InputError: a source cannot be opened, or there are test sources and none of their scenes can be used.
    """
    return EvaluationClips(settings, evaluation, rank=rank, world_size=world_size, dealt=dealt, with_depth=with_depth)


def _share(
    plan: Sequence[_Planned], *, batch_size: int, rank: int, world_size: int, dealt: Dealt
) -> list[list[_Planned]]:
    """The batches of one rank, of scenes with equal numbers of views; ``dealt`` units go to the ranks in rotation."""
    groups: defaultdict[tuple[int, int, int, bool], list[_Planned]] = defaultdict(list)
    for planned in plan:
        context, target = planned.choice.context, planned.choice.target
        groups[len(context), len(target), len({*context, *target}), planned.dataset.posed].append(planned)
    if dealt == "batches":
        whole = [batch for group in groups.values() for batch in _in_batches(group, batch_size)]
        return whole[rank::world_size]
    batches = []
    turns = 0
    for group in groups.values():
        mine = [planned for turn, planned in enumerate(group, turns) if turn % world_size == rank]
        batches += _in_batches(mine, batch_size)
        turns += len(group)
    return batches


def _in_batches(scenes: list[_Planned], size: int) -> list[list[_Planned]]:
    return [scenes[first : first + size] for first in range(0, len(scenes), size)]


class _EvaluationBatch:
    """Loads batch number i: a list of at most one batch, and the broken scenes."""

    def __init__(self, settings: DataSettings, batches: Sequence[Sequence[_Planned]], *, with_depth: bool) -> None:
        self.settings, self.batches, self.with_depth = settings, batches, with_depth

    def __call__(self, number: int) -> tuple[list[Views], list[SkippedScene]]:
        clips: list[Clip] = []
        broken = []
        for planned in self.batches[number]:
            try:
                clips.append(
                    read_clip(
                        planned.dataset,
                        planned.scene,
                        planned.choice,
                        image_size=self.settings.image_size,
                        with_depth=self.with_depth,
                    )
                )
            except BrokenSceneError as error:
                broken.append(SkippedScene(planned.dataset.key(planned.scene), str(error)))
        return [collate(clips, settings=self.settings).views()] if clips else [], broken
