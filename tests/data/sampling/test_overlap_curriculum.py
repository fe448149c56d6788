"""Windows by overlap: tables are read and inverted, steps bound the overlap, and messages name unusable scenes."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openrayzer.data.sampling.overlap_curriculum import OverlapCurriculum
from openrayzer.data.sampling.overlap_tables import OverlapCurve, read_overlap_tables
from openrayzer.interfaces import InputError, UnusableSceneError

TABLE = {1: 0.96, 5: 0.8, 10: 0.6, 20: 0.5}


@pytest.fixture
def make(tmp_path):
    def build(tables=None, **changes) -> OverlapCurriculum:
        path = tmp_path / "overlap.json"
        path.write_text(json.dumps({"a": TABLE} if tables is None else tables))
        settings = {"num_context": 3, "num_target": 2, "table": path, "curriculum_steps": 100}
        return OverlapCurriculum(**(settings | changes))

    return build


def test_curve_is_inverted_by_interpolation():
    curve = OverlapCurve(TABLE)
    wanted = {0.96: 1, 1.0: 1, 0.88: 3, 0.8: 5, 0.7: 7.5, 0.5: 20, 0.46: 20}
    for overlap, interval in wanted.items():
        assert curve.interval(overlap, tolerance=0.05) == pytest.approx(interval)
    assert curve.interval(1.0, tolerance=0.03) is None
    assert curve.interval(0.44, tolerance=0.05) is None


@given(values=st.lists(st.floats(0, 1), min_size=2, max_size=8), share=st.floats(0, 1))
def test_every_overlap_between_the_ends_is_reached(values, share):
    """This holds even for a curve that is not monotonic."""
    curve = OverlapCurve(dict(enumerate(values, 1)))
    overlap = values[-1] + share * (values[0] - values[-1])
    interval = curve.interval(overlap, tolerance=0.0)
    if values[0] >= values[-1]:
        assert interval is not None
        assert np.interp(interval, curve.intervals, curve.overlaps) == pytest.approx(overlap, abs=1e-9)


def test_bound_falls_with_the_step_and_windows_grow(make):
    sampler = make(min_overlap=0.5)
    assert [sampler.difficulty(step)["overlap_lower_bound"] for step in (0, 50, 100, 900)] == [1.0, 0.75, 0.5, 0.5]
    generator = np.random.default_rng(0)
    longest = []
    for step in (0, 50, 100):
        choices = [sampler.sample("a", 60, generator, step) for _ in range(400)]
        distances = [choice.frames[-1] - choice.frames[0] for choice in choices]
        assert min(distances) == 4  # five views need at least this distance
        longest.append(max(distances))
        for choice in choices:
            assert (len(choice.context), len(choice.target), len(choice.frames)) == (3, 2, 5)
            assert {choice.frames[0], choice.frames[-1]} <= {*choice.context}
            assert 0 <= choice.frames[0] < choice.frames[-1] < 60
    assert longest[0] == 4
    assert longest[1] == pytest.approx(2 * 6.25, abs=1)  # two intervals of overlap 0.75
    assert longest[2] == pytest.approx(2 * 20, abs=2)


def test_the_message_names_an_unusable_scene(make):
    generator = np.random.default_rng(0)
    sampler = make({"a": TABLE, "fast": {"1": 0.4}}, start_min_overlap=0.55, min_overlap=0.55, max_overlap=0.56)
    with pytest.raises(UnusableSceneError, match=r"'b' is not in the overlap table .*overlap\.json"):
        sampler.sample("b", 60, generator)
    with pytest.raises(
        UnusableSceneError, match=r"'fast' has no two views with overlap 0\.5\d: .* from 0\.40 to 0\.40"
    ):
        sampler.sample("fast", 60, generator)
    with pytest.raises(UnusableSceneError, match=r"'a' has 20 frames; overlap 0\.5\d of 3 context views needs \d\d"):
        sampler.sample("a", 20, generator)


def test_numbers_of_views_may_be_ranges(make):
    sampler = make(num_context=(2, 4), split="lvsm", order="shuffled")
    fixed = sampler.for_step(0, np.random.default_rng(0))
    generator = np.random.default_rng(1)
    choices = [fixed.sample("a", 60, generator, 80) for _ in range(20)]
    assert len({(len(choice.context), len(choice.frames)) for choice in choices}) == 1


def test_released_folders_are_read_as_one_file_is(tmp_path):
    for scene, entry in (("a", {"avg_per_view": 0.9, "other": 3}), ("b", {"cos_sim": 0.8})):
        (tmp_path / scene).mkdir()
        (tmp_path / scene / "covisibility.json").write_text(json.dumps({"2": entry}))
    curves = read_overlap_tables(tmp_path)
    assert {scene: (curve.intervals.tolist(), curve.overlaps.tolist()) for scene, curve in curves.items()} == {
        "a": ([2], [0.9]),
        "b": ([2], [0.8]),
    }


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"a": {"1": 0.', r"overlap\.json cannot be used: it is not JSON"),
        ("[" * 100_000, "it is not JSON"),
        ("[1]", "must be an object"),
        ("{}", "with at least one scene"),
        ('{"a": 3}', "'a': expected an object of intervals, got 3"),
        ('{"a": {}}', "'a': expected an object of intervals"),
        ('{"a": {"0": 0.5}}', "'0' is not an interval"),
        ('{"a": {"-1": 0.5}}', "'-1' is not an interval"),
        ('{"a": {"9999999999999999999": 0.5}}', "is not an interval"),
        ('{"a": {"1": "x"}}', "interval 1: 'x' is not an overlap"),
        ('{"a": {"1": NaN}}', "interval 1: nan is not an overlap"),
        ('{"a": {"1": true}}', "is not an overlap"),
        ('{"a": {"1": {"mean": 0.4}}}', "is not an overlap"),
        (json.dumps({str(i): 3 for i in range(9)}), "and 4 more"),
    ],
)
def test_malformed_table_is_named_when_read(tmp_path, content, message):
    path = tmp_path / "overlap.json"
    path.write_text(content)
    with pytest.raises(InputError, match=message):
        read_overlap_tables(path)


def test_missing_tables_are_named(tmp_path):
    with pytest.raises(InputError, match=r"nowhere\.json .* no such file; `openrayzer prepare overlap` makes"):
        read_overlap_tables(tmp_path / "nowhere.json")
    with pytest.raises(InputError, match=r"has no <scene>/covisibility\.json"):
        read_overlap_tables(tmp_path)


def test_table_that_is_a_pipe_is_named(tmp_path, waiting_pipe):
    (tmp_path / "a").mkdir()
    pipe = waiting_pipe(tmp_path / "a" / "covisibility.json")
    for path in (pipe, tmp_path):
        with pytest.raises(InputError, match=r"covisibility\.json cannot be used: it is not a regular file"):
            read_overlap_tables(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_context": 1}, "num_context must be 2 or more, got 1"),
        ({"min_overlap": 0.9, "start_min_overlap": 0.5}, "min_overlap <= start_min_overlap"),
        ({"curriculum_steps": 0}, "curriculum_steps must be 1 or more"),
    ],
)
def test_impossible_settings_are_refused(make, changes, message):
    with pytest.raises(InputError, match=message):
        make(**changes)
