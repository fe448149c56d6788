"""The order of scenes: complete, shuffled, shared by weight, and a function of the position."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openrayzer.data.loading.clip_order import ClipOrder, scene_generator


@settings(max_examples=30, deadline=None)
@given(size=st.integers(1, 40), seed=st.integers(-3, 3), epoch=st.integers(0, 5))
def test_one_source_shows_every_scene_once_an_epoch(size, seed, epoch):
    order = ClipOrder([size], weights=[0.3], seed=seed)
    assert order.epoch_size == size
    scenes = [order.scene(position) for position in range(epoch * size, (epoch + 1) * size)]
    assert sorted(scenes) == [(0, scene) for scene in range(size)]


def test_epochs_and_seeds_differ():
    def scenes(seed, epoch):
        order = ClipOrder([50], weights=[1.0], seed=seed)
        return [order.scene(position) for position in range(epoch * 50, epoch * 50 + 50)]

    assert scenes(0, 0) == scenes(0, 0)
    assert scenes(0, 0) != scenes(0, 1)
    assert scenes(0, 0) != scenes(1, 0)


@pytest.mark.parametrize("weights", [(1.0, 1.0, 1.0), (8.0, 1.0, 1.0), (1.0, 1e-9, 5.0)])
def test_sources_are_shared_by_weight(weights):
    order = ClipOrder([3, 5, 2000], weights=weights, seed=0)
    shown = Counter(order.scene(position)[0] for position in range(order.epoch_size))
    for source, weight in enumerate(weights):
        assert shown[source] >= 1
        assert shown[source] / order.epoch_size == pytest.approx(weight / sum(weights), abs=1e-3)


def test_no_scene_of_a_source_comes_again_before_all_have_come():
    order = ClipOrder([7, 30], weights=[1.0, 2.0], seed=3)
    mine = [scene for source, scene in map(order.scene, range(3 * order.epoch_size)) if source == 0]
    for first in range(0, len(mine) - 7, 7):
        assert sorted(mine[first : first + 7]) == list(range(7))


def test_order_does_not_depend_on_earlier_calls():
    order = ClipOrder([7, 30], weights=[1.0, 2.0], seed=3)
    positions = [5000, 3, 1000, 999, 12345, 0]
    fresh = [ClipOrder([7, 30], weights=[1.0, 2.0], seed=3).scene(position) for position in positions]
    assert [order.scene(position) for position in positions] == fresh


def test_choices_of_views_differ_by_position_and_attempt():
    order = ClipOrder([7], weights=[1.0], seed=3)
    numbers = {order.generator(position, attempt).random() for position in range(10) for attempt in range(3)}
    assert len(numbers) == 30


def test_scene_generator_depends_on_seed_and_name_only():
    assert scene_generator(1, "a").random() == scene_generator(1, "a").random()
    assert len({scene_generator(seed, key).random() for seed in (0, 1) for key in ("a", "場景", "")}) == 6
