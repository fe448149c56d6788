"""Splits, orders and ranges of view roles, alone and in batches."""

from collections import Counter
from dataclasses import replace
from hashlib import sha256

import numpy as np
import pytest
import torch

from openrayzer.data.loading.loader import build_loader
from openrayzer.data.sampling.autoregressive import Autoregressive
from openrayzer.data.sampling.view_samplers import Random, Window, WindowCurriculum
from openrayzer.interfaces import Dataset, Frames, InputError, ViewSampler
from openrayzer.settings import DataSettings, Source
from openrayzer.types import Views

CURRICULUM = {
    "start_min_frame_distance": 4, "start_max_frame_distance": 6, "min_frame_distance": 10, "max_frame_distance": 30,
    "curriculum_steps": 10,
}  # fmt: skip
RECORDED = [  # choices of the first version at steps 0, 5 and 20, and the next number of the generator
    (
        Window(num_context=3, num_target=2, min_frame_distance=5, max_frame_distance=20),
        [((12, 24, 32), (23, 29)), ((27, 28, 36), (31, 33)), ((22, 26, 34), (25, 33))],
        513408455,
    ),
    (
        Window(num_context=1, num_target=3, min_frame_distance=5, max_frame_distance=20),
        [((12,), (25, 30, 32)), ((10,), (11, 14, 15)), ((29,), (26, 27, 33))],
        772526012,
    ),
    (
        WindowCurriculum(num_context=2, num_target=2, **CURRICULUM),
        [((21, 27), (24, 26)), ((5, 22), (6, 10)), ((0, 29), (14, 23))],
        127864392,
    ),
    (
        Autoregressive(num_views=4, min_frame_distance=4, max_frame_distance=12),
        [((17, 29, 24), (29, 24, 27)), ((29, 35, 30), (35, 30, 33)), ((26, 28, 29), (28, 29, 34))],
        513408455,
    ),
]


class Greys(Dataset):
    """Scenes of thirty frames; frame i has brightness i."""

    posed = False

    def open(self) -> None: ...

    def __len__(self) -> int:
        return 10

    def key(self, scene: int) -> str:
        return f"grey {scene}"

    def num_frames(self, scene: int) -> int:
        return 30

    def read(self, scene, frames) -> Frames:
        return Frames([np.full((4, 4, 3), frame, np.uint8) for frame in frames], None, None)


def window(**changes) -> Window:
    settings = {"num_context": 3, "num_target": 4, "min_frame_distance": 9, "max_frame_distance": 20}
    return Window(**(settings | changes))


def step_batches(sampler: ViewSampler, *, step: int, ranks: int = 1, accumulation: int = 1, workers: int = 0, seed=0):
    """All micro-batches of one optimizer step of 8 clips, in the order of their clips."""
    settings = DataSettings(
        train=(Source(dataset=Greys()),), view_sampler=sampler, image_size=(4, 4), workers=workers, prefetch=1
    )
    loaders = [
        build_loader(
            settings, batch_size_per_rank=8 // ranks // accumulation, rank=rank, world_size=ranks, seed=seed,
            start=step * accumulation, accumulation=accumulation,
        )
        for rank in range(ranks)
    ]  # fmt: skip
    return [next(loader) for _ in range(accumulation) for loader in loaders]


def contents(batches: list[Views]) -> list[tuple]:
    return [
        (scene, *(values[row].tolist() for values in (views.frames, views.context, views.target)))
        for views in batches
        for row, scene in enumerate(views.scenes)
    ]


@pytest.mark.parametrize(("sampler", "choices", "number"), RECORDED)
@pytest.mark.parametrize("per_step", [False, True])
def test_choices_are_those_of_the_first_version(sampler, choices, number, per_step):
    generator = np.random.default_rng(7)
    for step, wanted in zip((0, 5, 20), choices, strict=True):
        of_step = sampler.for_step(step, np.random.default_rng(step)) if per_step else sampler
        choice = of_step.sample("a", 40, generator, step)
        assert (choice.context, choice.target, choice.order) == (*wanted, ())
    assert generator.integers(1 << 30) == number


def test_clips_are_those_of_the_first_version():
    stream = [clip for step in range(12) for clip in contents(step_batches(window(), step=step))]
    digest = sha256(repr(stream).encode()).hexdigest()
    assert digest == "bc6b8988802465013d8f12737edad4e30765dea091df2325226ca5de3f703845"


@pytest.mark.parametrize("ranks", [1, 2, 4])
@pytest.mark.parametrize("accumulation", [1, 2])
def test_ranges_give_every_clip_of_a_step_the_same_numbers(ranks, accumulation):
    sampler = window(num_context=(2, 4), num_target=(1, 6), split="lvsm")
    seen = set()
    for step in range(6):
        batches = step_batches(sampler, step=step, ranks=ranks, accumulation=accumulation)
        assert contents(batches) == contents(step_batches(sampler, step=step))
        shapes = {(views.frames.shape[1], views.context.shape[1], views.target.shape[1]) for views in batches}
        assert len(shapes) == 1
        seen |= shapes
    assert len(seen) > 3


def test_ranges_do_not_depend_on_workers():
    sampler = window(num_context=(2, 4), order="shuffled")
    assert contents(step_batches(sampler, step=3, workers=1)) == contents(step_batches(sampler, step=3))
    assert contents(step_batches(sampler, step=3, seed=1)) != contents(step_batches(sampler, step=3))


@pytest.mark.parametrize(
    "sampler",
    [
        window(num_context=(2, 4), num_target=(1, 6)),
        WindowCurriculum(num_context=(2, 3), num_target=(1, 2), **CURRICULUM),
        Random(num_context=(2, 4), num_target=(1, 6)),
    ],
)
def test_every_number_of_a_range_is_drawn(sampler):
    generator = np.random.default_rng(0)
    drawn = Counter()
    for step in range(400):
        fixed = sampler.for_step(step, generator)
        choices = [fixed.sample("a", 40, generator, step) for _ in range(2)]
        assert len({(len(choice.context), len(choice.target)) for choice in choices}) == 1
        drawn[len(choices[0].context), len(choices[0].target)] += 1
    contexts, targets = ({*range(low, high + 1)} for low, high in (sampler.num_context, sampler.num_target))
    assert drawn.keys() == {(context, target) for context in contexts for target in targets}
    assert sampler.for_step(0, np.random.default_rng(1)).difficulty(3) == sampler.difficulty(3)


def test_autoregressive_lists_may_vary_in_length():
    sampler = Autoregressive(num_views=(3, 6), min_frame_distance=5, max_frame_distance=9)
    generator = np.random.default_rng(0)
    lengths = set()
    for step in range(60):
        fixed = sampler.for_step(step, generator)
        choice, other = (fixed.sample("a", 40, generator) for _ in range(2))
        assert len(choice.context) == len(choice.target) == len(other.context)
        assert choice.context[1:] == choice.target[:-1]
        lengths.add(len(choice.context))
    assert lengths == {2, 3, 4, 5}


def test_without_a_step_each_scene_draws_its_own_numbers():
    """Evaluation relies on this: it groups scenes by their numbers of views."""
    sampler, generator = window(num_target=(1, 6)), np.random.default_rng(0)
    assert {len(sampler.sample("a", 40, generator).target) for _ in range(100)} == {1, 2, 3, 4, 5, 6}


def test_lvsm_draws_targets_from_all_views():
    """With c contexts and t targets among c + t views, a context is a target with probability t / (c + t)."""
    sampler, generator = window(num_context=2, num_target=6, split="lvsm"), np.random.default_rng(0)
    shared, ends = Counter(), Counter()
    for _ in range(2000):
        choice = sampler.sample("a", 40, generator)
        assert choice.context == (min(choice.frames), max(choice.frames))
        assert len(choice.target) == len(set(choice.target)) == 6
        both = {*choice.context} & {*choice.target}
        shared[len(both)] += 1
        ends["first"] += choice.context[0] in both
        ends["last"] += choice.context[1] in both
    assert all(abs(count - 1500) < 90 for count in ends.values())
    assert abs(shared[0] / 2000 - 1 / 28) < 0.015  # 6 of the 6 others among 28 ways


def test_random_split_leaves_the_ends_free():
    sampler, generator = window(split="random"), np.random.default_rng(0)
    choices = [sampler.sample("a", 40, generator) for _ in range(1400)]
    assert all(not {*choice.context} & {*choice.target} for choice in choices)
    for end in (min, max):
        count = sum(end(choice.frames) in choice.context for choice in choices)
        assert abs(count - 600) < 70  # 3 of 7


@pytest.mark.parametrize("split", ["rayzer", "lvsm", "random"])
def test_shuffled_views_keep_their_roles(split):
    sampler = window(split=split, order="shuffled")
    generator = np.random.default_rng(0)
    choice = sampler.sample("a", 40, generator)
    assert sorted(choice.order) == sorted({*choice.context, *choice.target})
    for frames in (choice.context, choice.target):
        assert list(frames) == sorted(frames, key=choice.order.index)
    first = Counter(sorted(c.order).index(c.order[0]) for c in (sampler.sample("a", 40, generator) for _ in range(500)))
    assert len(first) >= 6


def test_shuffled_views_are_loaded_in_that_order():
    (views,) = step_batches(window(order="shuffled", split="lvsm"), step=0)
    assert (views.frames.diff(dim=1) < 0).any()
    torch.testing.assert_close((views.images[:, :, 0, 0, 0] * 255).round().long(), views.frames)
    assert (views.context.diff(dim=1) > 0).all()
    ends = torch.stack([views.frames.argmin(dim=1), views.frames.argmax(dim=1)], dim=1)
    assert all({*row} <= {*context} for row, context in zip(ends.tolist(), views.context.tolist(), strict=True))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_context": (4, 3)}, r"num_context must be a number or \(smallest, largest\), got \(4, 3\)"),
        ({"num_target": (0, 3)}, r"must be 1 or more, got 3 and \(0, 3\)"),
        ({"num_target": (1, 9)}, "fits 10 views; 3 context and 9 target views need at least 11"),
        (
            {"split": "lvsm", "num_context": 1},
            "'lvsm' makes the first and the last frame context, so num_context must be 2 or more",
        ),
    ],
)
def test_impossible_roles_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        window(**changes)


def test_roles_with_fixed_numbers_are_shared_not_copied():
    sampler = window()
    assert sampler.for_step(0, np.random.default_rng(0)) is sampler
    assert replace(sampler.roles, num_context=(2, 3)).for_step(np.random.default_rng(0)).fixed
