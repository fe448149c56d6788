"""Published schedules: their distances, their steps, and the error where a paper states no steps."""

from typing import get_args

import numpy as np
import pytest

from openrayzer.composer import construct, plan
from openrayzer.data.sampling.published_windows import PUBLISHED, Name, PublishedWindows
from openrayzer.interfaces import REGISTRIES, InputError, ViewSampler


def test_every_name_has_a_schedule():
    assert set(get_args(Name)) == set(PUBLISHED)


@pytest.mark.parametrize("schedule", sorted(PUBLISHED))
def test_schedule_grows_from_its_start_to_its_end_and_gives_clips(schedule):
    published = PUBLISHED[schedule]
    sampler = PublishedWindows(schedule=schedule, num_context=2, num_target=3, curriculum_steps=1000)
    for step, (shortest, longest) in ((0, published.start), (1000, published.end), (9999, published.end)):
        assert sampler.distances(step) == (4 if shortest is None else shortest, longest)
        frames = sampler.sample("a", 400, np.random.default_rng(0), step).frames
        assert (shortest or 4) <= frames[-1] - frames[0] <= longest


def test_stated_steps_are_used():
    sampler = PublishedWindows(schedule="rayzer_dl3dv", num_context=16, num_target=8)
    assert sampler.distances(15_000) == (56, 80)
    assert sampler.difficulty(30_000) == {"min_frame_distance": 64, "max_frame_distance": 96}


def test_a_paper_without_steps_asks_for_them():
    with pytest.raises(InputError, match=r"rayzer_re10k states no number of steps; set curriculum_steps"):
        PublishedWindows(schedule="rayzer_re10k", num_context=2, num_target=3)


def test_windows_that_are_too_short_are_refused():
    with pytest.raises(InputError, match="min_frame_distance"):
        PublishedWindows(schedule="xfactor_dl3dv", num_context=4, num_target=4)


def test_composer_checks_the_name():
    spec = {"type": "published_windows", "schedule": "rayzer_dl3d", "num_context": 16, "num_target": 8}
    with pytest.raises(ValueError, match="rayzer_dl3dv"):
        plan(spec, ViewSampler, registries=REGISTRIES, path="view_sampler")
    built = construct(
        plan(spec | {"schedule": "rayzer_dl3dv"}, ViewSampler, registries=REGISTRIES, path="view_sampler")
    )
    assert built.distances(0) == (48, 64)
