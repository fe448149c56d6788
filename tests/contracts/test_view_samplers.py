"""What every view sampler promises: choices inside the scene that depend on the generator alone."""

import pickle

import numpy as np
import pytest
from small import names

from openrayzer.interfaces import VIEW_SAMPLERS, UnusableSceneError, ViewChoice, ViewSampler

pytestmark = pytest.mark.parametrize("name", names(VIEW_SAMPLERS))
NUM_FRAMES = 30


@pytest.fixture
def sampler(small, name: str) -> ViewSampler:
    return small(VIEW_SAMPLERS, name)


def choose(sampler: ViewSampler, seed: int, *, key: str = "attic", step: int = 0) -> ViewChoice:
    """As training does it: the step's sampler chooses the views of one clip."""
    of_step = sampler.for_step(step, np.random.default_rng((seed, 1)))
    return of_step.sample(key, NUM_FRAMES, np.random.default_rng(seed), step)


@pytest.mark.parametrize("step", [0, 50, 10**6])
def test_frames_are_inside_the_scene(sampler, step):
    for seed in range(20):
        choice = choose(sampler, seed, step=step)
        assert choice.context
        assert choice.target
        for frames in (choice.context, choice.target):
            assert len(set(frames)) == len(frames)
            assert all(type(frame) is int and 0 <= frame < NUM_FRAMES for frame in frames)
        assert sorted(choice.frames) == sorted({*choice.context, *choice.target})


def test_the_generator_alone_decides(sampler):
    copy = pickle.loads(pickle.dumps(sampler))
    np.random.seed(0)
    choices = [choose(sampler, seed) for seed in range(5)]
    assert [choose(copy, seed) for seed in range(5)] == choices


def test_clips_of_one_step_have_equal_numbers_of_views(sampler):
    of_step = sampler.for_step(3, np.random.default_rng(0))
    choices = [of_step.sample("attic", NUM_FRAMES, np.random.default_rng(seed), 3) for seed in range(10)]
    assert len({(len(choice.context), len(choice.target)) for choice in choices}) == 1


def test_a_scene_with_too_few_frames_is_refused(sampler):
    with pytest.raises(UnusableSceneError):
        sampler.sample("attic", 1, np.random.default_rng(0))


def test_the_difficulty_of_a_step_is_named_finite_numbers(sampler):
    for step in (0, 50, 10**6):
        assert all(np.isfinite(value) for value in sampler.difficulty(step).values())
