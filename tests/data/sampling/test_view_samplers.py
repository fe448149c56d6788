"""View samplers: choices are in range, distinct, ordered and seeded; messages name scenes without a choice."""

import json

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from openrayzer.data.sampling.evaluation_index import EvaluationIndex
from openrayzer.data.sampling.view_samplers import AllFrames, Even, Random, Window, WindowCurriculum
from openrayzer.interfaces import InputError, UnusableSceneError, ViewChoice

COUNTS = st.integers(1, 6)


def random(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@given(context=COUNTS, target=COUNTS, more=st.integers(0, 20), frames=st.integers(2, 60), seed=st.integers(0, 9))
def test_window_keeps_its_promises(context, target, more, frames, seed):
    shortest = context + target - 1
    assume(frames > shortest)
    sampler = Window(
        num_context=context, num_target=target, min_frame_distance=shortest, max_frame_distance=shortest + more
    )
    choice = sampler.sample("a", frames, random(seed))
    chosen = sorted([*choice.context, *choice.target])
    assert (len(choice.context), len(choice.target)) == (context, target)
    assert len(set(chosen)) == context + target
    assert list(choice.context) == sorted(choice.context)
    assert list(choice.target) == sorted(choice.target)
    assert 0 <= chosen[0] < chosen[-1] < frames
    assert shortest <= chosen[-1] - chosen[0] <= shortest + more
    if context >= 2:
        assert {chosen[0], chosen[-1]} <= set(choice.context)
    assert all(type(frame) is int for frame in chosen)
    assert choice == sampler.sample("b", frames, random(seed))


def test_window_distances_and_places_are_uniform():
    sampler = Window(num_context=2, num_target=1, min_frame_distance=4, max_frame_distance=9)
    generator = random()
    choices = [sampler.sample("a", 9, generator) for _ in range(3000)]
    distances = np.bincount([choice.context[1] - choice.context[0] for choice in choices], minlength=10)
    assert list(np.flatnonzero(distances)) == [4, 5, 6, 7, 8]  # 9 does not fit nine frames
    assert distances[4:9].min() > 500
    starts = np.bincount([choice.context[0] for choice in choices if choice.context[1] - choice.context[0] == 4])
    assert starts.min() > 80
    targets = {choice.target[0] - choice.context[0] for choice in choices}
    assert targets == {1, 2, 3, 4, 5, 6, 7}


def test_curriculum_widens_the_window_with_the_step():
    """RayZer's released values: 48..64 at step 0, 56..80 half way, 64..96 from step 30,000 on."""
    sampler = WindowCurriculum(
        num_context=16, num_target=8, start_min_frame_distance=48, start_max_frame_distance=64,
        min_frame_distance=64, max_frame_distance=96, curriculum_steps=30_000,
    )  # fmt: skip
    assert [sampler.distances(step) for step in (0, 15_000, 30_000, 90_000)] == [(48, 64), (56, 80), (64, 96), (64, 96)]
    generator = random()
    for step, longest in ((0, 64), (15_000, 80), (30_000, 96)):
        choices = [sampler.sample("a", 300, generator, step) for _ in range(300)]
        assert max(choice.context[-1] - choice.context[0] for choice in choices) == longest


def test_curriculum_says_how_hard_a_step_is():
    sampler = WindowCurriculum(
        num_context=2, num_target=2, start_min_frame_distance=4, start_max_frame_distance=8,
        min_frame_distance=10, max_frame_distance=28, curriculum_steps=10,
    )  # fmt: skip
    assert sampler.difficulty(5) == {"min_frame_distance": 7, "max_frame_distance": 18}
    assert Window(num_context=1, num_target=1, min_frame_distance=1, max_frame_distance=1).difficulty(5) == {}


def test_curriculum_refuses_to_shrink():
    with pytest.raises(InputError, match="must not shrink"):
        WindowCurriculum(
            num_context=2, num_target=2, start_min_frame_distance=9, start_max_frame_distance=9,
            min_frame_distance=5, max_frame_distance=9, curriculum_steps=10,
        )  # fmt: skip


def test_the_message_says_how_many_frames_a_window_needs():
    sampler = Window(num_context=2, num_target=6, min_frame_distance=25, max_frame_distance=192)
    with pytest.raises(UnusableSceneError, match=r"'kitchen' has 20 frames; a distance of at least 25 needs 26"):
        sampler.sample("kitchen", 20, random())


@pytest.mark.parametrize("frames", [0, 1])
def test_no_sampler_chooses_from_next_to_nothing(frames):
    for sampler in (Window(num_context=1, num_target=1, min_frame_distance=1, max_frame_distance=1),
                    Even(num_context=1, num_target=1)):  # fmt: skip
        with pytest.raises(UnusableSceneError, match=f"has {frames} frames"):
            sampler.sample("a", frames, random())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ((0, 6, 25, 192), "must be 1 or more, got 0 and 6"),
        ((2, 0, 25, 192), "must be 1 or more, got 2 and 0"),
        ((2, 6, 6, 192), "min_frame_distance 6 fits 7 views; 2 context and 6 target views need at least 7"),
        ((2, 6, 25, 24), "max_frame_distance 24 is below min_frame_distance 25"),
    ],
)
def test_impossible_windows_are_refused_when_built(settings, message):
    names = ("num_context", "num_target", "min_frame_distance", "max_frame_distance")
    with pytest.raises(InputError, match=message):
        Window(**dict(zip(names, settings, strict=True)))


@given(spare=st.integers(0, 9), context=COUNTS, target=COUNTS, frames=st.integers(2, 60), seed=st.integers(0, 9))
def test_random_frames_are_different_and_lie_in_the_span(spare, context, target, frames, seed):
    span = context + target - 1 + spare
    assume(frames > span)
    choice = Random(num_context=context, num_target=target, span=span).sample("a", frames, random(seed))
    chosen = sorted([*choice.context, *choice.target])
    assert (len(choice.context), len(choice.target)) == (context, target)
    assert len(set(chosen)) == context + target
    assert 0 <= chosen[0] <= chosen[-1] < frames
    assert chosen[-1] - chosen[0] <= span
    assert all(type(frame) is int for frame in chosen)


def test_random_frames_are_uniform():
    sampler, generator = Random(num_context=1, num_target=1), random()
    choices = [sampler.sample("a", 5, generator) for _ in range(2000)]
    pairs = np.bincount([5 * choice.context[0] + choice.target[0] for choice in choices], minlength=25)
    assert pairs.reshape(5, 5).diagonal().sum() == 0
    assert pairs[pairs > 0].min() > 60  # of 100


def test_random_reports_views_that_do_not_fit():
    with pytest.raises(InputError, match="span 2 fits 3 of 4 views; it must be at least 3"):
        Random(num_context=2, num_target=2, span=2)
    with pytest.raises(UnusableSceneError, match=r"'a' has 3 frames; 4 random views need 4"):
        Random(num_context=2, num_target=2).sample("a", 3, random())


@given(context=COUNTS, frames=st.integers(2, 60))
def test_all_takes_every_frame(context, frames):
    assume(frames > context)
    choice = AllFrames(num_context=context).sample("a", frames, random())
    assert sorted([*choice.context, *choice.target]) == list(range(frames))
    assert (
        choice.context == Even(num_context=context, num_target=frames - context).sample("a", frames, random()).context
    )


def test_all_needs_a_target():
    with pytest.raises(UnusableSceneError, match="'a' has 2 frames; 2 context views and a target need 3"):
        AllFrames(num_context=2).sample("a", 2, random())


@given(context=COUNTS, target=COUNTS, frames=st.integers(2, 60))
def test_even_is_even(context, target, frames):
    assume(frames >= context + target)
    choice = Even(num_context=context, num_target=target).sample("a", frames, random())
    chosen = sorted([*choice.context, *choice.target])
    assert (len(choice.context), len(choice.target)) == (context, target)
    assert (chosen[0], chosen[-1]) == (0, frames - 1)
    assert np.ptp(np.diff(chosen)) <= 1
    if context >= 2:
        assert {0, frames - 1} <= set(choice.context)


def test_even_takes_the_middle():
    assert Even(num_context=2, num_target=3, span=8).sample("a", 21, random()) == ViewChoice((6, 14), (8, 10, 12))


def test_even_refuses_too_many_views():
    with pytest.raises(InputError, match="span 3 fits 4 of 5 views; it must be at least 4"):
        Even(num_context=2, num_target=3, span=3)
    with pytest.raises(UnusableSceneError, match=r"'a' has 8 frames; 5 evenly spaced views need 9"):
        Even(num_context=2, num_target=3, span=8).sample("a", 8, random())


def index(tmp_path, content) -> EvaluationIndex:
    path = tmp_path / "index.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return EvaluationIndex(path=path)


def test_index_gives_what_it_lists(tmp_path):
    entries = {"a": {"context": [58, 13], "target": [84, 58], "overlap": 0.5}, "b": None}
    assert index(tmp_path, entries).sample("a", 100, random()) == ViewChoice((58, 13), (84, 58))


def test_index_says_why_a_scene_has_no_views(tmp_path):
    sampler = index(tmp_path, {"a": {"context": [0, 99], "target": [3, 200]}, "b": None})
    with pytest.raises(UnusableSceneError, match=r"'a' has 99 frames, .*index\.json asks for frame\(s\) 99, 200"):
        sampler.sample("a", 99, random())
    with pytest.raises(UnusableSceneError, match=r"'b' is null in .*index\.json"):
        sampler.sample("b", 99, random())
    with pytest.raises(UnusableSceneError, match=r"'c' is not in .*index\.json"):
        sampler.sample("c", 99, random())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"a": {"context": [0, 5', r"index\.json cannot be used: it is not JSON"),
        ("[" * 100_000, "it is not JSON"),
        ("[1]", "it holds a list, not an object"),
        ({"a": 3}, "'a': expected null or an object with context and target, got a number"),
        ({"a": {"context": [0]}}, "'a': 'target' must be a list of frame numbers, got nothing"),
        ({"a": {"context": [], "target": [1]}}, "'context' must be a list of frame numbers, got an empty list"),
        ({"a": {"context": [0, -3], "target": [1]}}, "'context' holds -3; a frame number must be a whole number"),
        ({"a": {"context": [0, 1.5], "target": [1]}}, "holds 1.5"),
        ({"a": {"context": [0, True], "target": [1]}}, "holds True"),
        ({str(i): 3 for i in range(9)}, "and 4 more"),
    ],
)
def test_malformed_index_is_named_when_read(tmp_path, content, message):
    with pytest.raises(InputError, match=message):
        index(tmp_path, content)


def test_missing_index_is_named(tmp_path):
    with pytest.raises(InputError, match=r"nowhere\.json cannot be used: there is no such file"):
        EvaluationIndex(path=tmp_path / "nowhere.json")


def test_index_that_is_a_pipe_is_named(tmp_path, waiting_pipe):
    with pytest.raises(InputError, match=r"index\.json cannot be used: it is not a regular file"):
        EvaluationIndex(path=waiting_pipe(tmp_path / "index.json"))
