"""View sampler "autoregressive": every target follows its context views, in an order that the seed decides."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openrayzer.data.sampling.autoregressive import Autoregressive
from openrayzer.interfaces import InputError, UnusableSceneError


def sampler(num_views: int = 5, *, more: int = 6, order: str = "random") -> Autoregressive:
    shortest = num_views - 1
    return Autoregressive(
        num_views=num_views, min_frame_distance=shortest, max_frame_distance=shortest + more, order=order
    )


@given(views=st.integers(2, 8), more=st.integers(0, 9), spare=st.integers(0, 20), seed=st.integers(0, 9))
def test_every_view_but_the_first_is_a_target_of_all_views_before_it(views, more, spare, seed):
    frames = views + spare
    choice = sampler(views, more=more).sample("a", frames, np.random.default_rng(seed))
    listed = [choice.context[0], *choice.target]
    assert list(choice.context) == listed[:-1]
    assert len(set(listed)) == views
    assert all(target not in choice.context[: i + 1] for i, target in enumerate(choice.target))
    assert 0 <= min(listed) <= max(listed) < frames
    assert views - 1 <= max(listed) - min(listed) <= views - 1 + more
    assert all(type(frame) is int for frame in listed)
    assert choice == sampler(views, more=more).sample("b", frames, np.random.default_rng(seed))


def test_random_order_is_random_and_temporal_order_is_that_of_time():
    generator = np.random.default_rng(0)
    firsts = [sampler().sample("a", 20, generator) for _ in range(600)]
    places = np.bincount([sorted([c.context[0], *c.target]).index(c.context[0]) for c in firsts], minlength=5)
    assert places.min() > 80  # of 120
    for _ in range(20):
        choice = sampler(order="temporal").sample("a", 20, generator)
        assert list(choice.context) == sorted(choice.context)
        assert list(choice.target) == sorted(choice.target)


def test_frames_are_those_of_a_window():
    """Both ends of the window are views, and distances are uniform."""
    generator = np.random.default_rng(0)
    spans = [np.ptp([*c.context, *c.target]) for c in (sampler().sample("a", 20, generator) for _ in range(700))]
    counts = np.bincount(spans, minlength=11)
    assert list(np.flatnonzero(counts)) == [4, 5, 6, 7, 8, 9, 10]
    assert counts[4:].min() > 60


def test_short_scenes_and_impossible_settings_are_named():
    with pytest.raises(UnusableSceneError, match=r"'attic' has 4 frames; a distance of at least 4 needs 5"):
        sampler().sample("attic", 4, np.random.default_rng(0))
    with pytest.raises(InputError, match="num_views must be 2 or more, got 1"):
        Autoregressive(num_views=1, min_frame_distance=3, max_frame_distance=5)
    with pytest.raises(InputError, match="min_frame_distance 3 fits 4 of 6 views; it must be at least 5"):
        Autoregressive(num_views=6, min_frame_distance=3, max_frame_distance=5)
    with pytest.raises(InputError, match="max_frame_distance 4 is below min_frame_distance 5"):
        Autoregressive(num_views=6, min_frame_distance=5, max_frame_distance=4)
