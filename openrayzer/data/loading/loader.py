"""Training batches: an endless stream that depends only on the seed."""

from collections.abc import Callable, Iterator, Sequence
from itertools import count

import torch
from torch import Tensor

from openrayzer.data.loading.clip_order import ClipOrder
from openrayzer.data.loading.clips import BatchBuffer, Buffer, LoadedViews, collate, read_clip
from openrayzer.data.loading.device_copies import DeviceCopier
from openrayzer.data.loading.frame_cache import CachedScenes, FrameCache
from openrayzer.data.loading.numbered_batches import load_batches
from openrayzer.interfaces import BrokenSceneError, Clip, InputError, UnusableSceneError, ViewSampler
from openrayzer.settings import DataSettings, Source
from openrayzer.types import Views

Check = Callable[[Tensor, Tensor, Sequence[str]], None]
"""Takes the positions of context views (b, vc) and of target views (b, vt) and the names of the scenes. Raises an
InputError if the batch must not be used."""
MAX_FAILURES_IN_A_ROW = 100
"""Number of scenes that may fail one after another before loading stops."""

_NAMED = 3  # number of these failures that the message lists
_UNSUITABLE_NAMED = 20  # unsuitable scenes that each worker reports by name


class ClipLoader(Iterator[Views]):
    """Endless training batches, one per micro-batch; made by ``build_loader``.

    Attributes:
        problems: faults of the sources found while opening them, one sentence each.
        epoch_size: number of clips of one epoch over all ranks; see ``ClipOrder``.
    """

    def __init__(
        self, batches: Iterator[LoadedViews], *, device: torch.device | str, problems: tuple[str, ...], epoch_size: int
    ) -> None:
        self._batches, self._device, self.problems, self.epoch_size = batches, device, problems, epoch_size

    def __next__(self) -> Views:
        return next(self._batches).views(self._device)


def build_loader(
    settings: DataSettings,
    *,
    batch_size_per_rank: int,
    rank: int,
    world_size: int,
    seed: int,
    start: int = 0,
    accumulation: int = 1,
    device: torch.device | str = "cpu",
    check: Check | None = None,
) -> ClipLoader:
    """Open the training sources and start loading.

    The clip at position p of the stream is a function of ``seed``, p and its optimizer step. Micro-batch i of rank r
    holds ``batch_size_per_rank`` consecutive positions; the first is (i * world_size + r) * batch_size_per_rank. So
    the numbers of ranks, micro-batches and workers decide which process loads a clip, but not the clips of a step. The
    next scene in the order replaces a scene that cannot be used, and ``problems`` of the batch names that scene.

    Args:
        settings: sources, view sampler, image size, workers.
        batch_size_per_rank: number of clips per micro-batch.
        rank: rank of this process.
        world_size: number of ranks.
        seed: seed of the order and of the choice of views.
        start: number of the first micro-batch; not 0 when a run resumes.
        accumulation: micro-batches per optimizer step; the step of a clip follows from it.
        device: device of the batches. A GPU gets whole batches, copied ahead of time. Other devices get only the
            images; ``Views.to`` moves the rest.
        check: checks every batch in the process that loads it, where the positions are still on the CPU.

    Raises:
        InputError: a source cannot be opened; iterating raises it if ``MAX_FAILURES_IN_A_ROW`` scenes in a row fail.
    """
    problems = open_sources(settings.train)
    order = ClipOrder(
        [len(source.dataset) for source in settings.train],
        weights=[source.weight for source in settings.train],
        seed=seed,
    )
    load = _TrainingBatch(settings, order, batch_size_per_rank, rank, world_size, accumulation, check)
    device = torch.device(device)
    batches = load_batches(
        load,
        numbers=_From(start),
        workers=settings.workers,
        prefetch=settings.prefetch,
        prepare=DeviceCopier(device) if device.type == "cuda" else None,
    )
    return ClipLoader(batches, device=device, problems=problems, epoch_size=order.epoch_size)


def open_sources(sources: Sequence[Source]) -> tuple[str, ...]:
    """Open every source; return one sentence for each part that had to be left out.

    Raises:
        InputError: some sources cannot be opened; the message lists all of them.
    """
    failures = []
    for source in sources:
        try:
            source.dataset.open()
            if not len(source.dataset):
                failures.append(f"{type(source.dataset).__name__} found no scenes")
        except InputError as error:
            failures.append(str(error))
    if failures:
        raise InputError("\n".join(failures))
    return tuple(problem for source in sources for problem in source.dataset.problems)


class _From:
    """Whole numbers from ``start`` on, without end."""

    def __init__(self, start: int) -> None:
        self.start = start

    def __iter__(self) -> Iterator[int]:
        return count(self.start)


class _TrainingBatch:
    """Loads micro-batch number i of one rank."""

    def __init__(
        self,
        settings: DataSettings,
        order: ClipOrder,
        batch_size: int,
        rank: int,
        world_size: int,
        accumulation: int,
        check: Check | None,
    ) -> None:
        self.settings, self.order, self.check = settings, order, check
        self.datasets = [source.dataset for source in settings.train]
        if settings.cache is not None:
            cache = FrameCache(settings.cache.folder, settings.cache.gigabytes)
            self.datasets = [CachedScenes(dataset, cache) for dataset in self.datasets]
        self.batch_size, self.rank, self.world_size = batch_size, rank, world_size
        self.clips_per_step = batch_size * world_size * accumulation
        self.unsuitable = set[tuple[int, int]]()

    def __call__(self, number: int) -> LoadedViews:
        first = (number * self.world_size + self.rank) * self.batch_size
        step = first // self.clips_per_step
        sampler = self.settings.view_sampler.for_step(step, self.order.step_generator(step))
        problems: list[str] = []
        batch = BatchBuffer(self.batch_size, self.settings.image_size)
        clips = [
            self._clip(first + place, sampler, step, problems, batch.of(place)) for place in range(self.batch_size)
        ]
        loaded = collate(clips, settings=self.settings, problems=problems)
        if self.check is not None:
            self.check(loaded.others["context"], loaded.others["target"], loaded.others["scenes"])
        return loaded

    def _clip(self, position: int, sampler: ViewSampler, step: int, problems: list[str], buffer: Buffer) -> Clip:
        failures: list[str] = []
        for attempt in range(MAX_FAILURES_IN_A_ROW):
            source, scene = self.order.scene(position + attempt)
            dataset = self.datasets[source]
            try:
                generator = self.order.generator(position, attempt)
                num_frames = dataset.num_frames(scene)
                choice = sampler.sample(dataset.key(scene), num_frames, generator, step)
                changes = [
                    (augmentation, self.order.augmentation_generator(position, attempt, number))
                    for number, augmentation in enumerate(self.settings.augmentations)
                ]
                clip = read_clip(
                    dataset,
                    scene,
                    choice,
                    image_size=self.settings.image_size,
                    changes=changes,
                    buffer=buffer,
                    scaled_decoding=self.settings.scaled_decoding,
                )
            except (BrokenSceneError, UnusableSceneError) as error:
                failures.append(str(error))
                problems += self._problems_of(error, source, scene)
                continue
            return clip
        last = "\n".join(failures[-_NAMED:])
        raise InputError(f"{len(failures)} scenes in a row could not be used; the last ones:\n{last}")

    def _problems_of(self, error: Exception, source: int, scene: int) -> list[str]:
        """The problem to report for a scene that was replaced; empty if it was reported before.

        A worker reports a fault of the data every time. It reports a scene that does not suit the view sampler once,
        and at most ``_UNSUITABLE_NAMED`` such scenes.
        """
        if isinstance(error, UnusableSceneError):
            if (source, scene) in self.unsuitable or len(self.unsuitable) > _UNSUITABLE_NAMED:
                return []
            self.unsuitable.add((source, scene))
            if len(self.unsuitable) > _UNSUITABLE_NAMED:
                return ["more scenes do not suit the view sampler; the log does not list them"]
        return [f"{error}; the next scene was used instead"]
