"""The published protocols: numbers, rules, and index files."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from openrayzer.data.sampling.evaluation_index import EvaluationIndex
from openrayzer.data.sources.chunks import Chunks
from openrayzer.evaluation.protocols import PROTOCOLS, find_protocol, protocol_table
from openrayzer.evaluation.request import split_names
from openrayzer.interfaces import InputError, UnusableSceneError

GOOD = {
    "re10k_2v3": ([58, 133], [84, 102, 129]),
    "acid_2v3": ([10, 60], [10, 30, 60]),
    "re10k_video": ([7, 4], [4, 5, 6, 7]),
    "re10k_extrapolation": ([40, 80], [20, 90, 110]),
    "rayzer_dl3dv_even": ([*range(0, 32, 2)], [*range(1, 17, 2)]),
}
BAD = {
    "re10k_2v3": [([0, 50, 90], [20, 30, 40]), ([0, 50], [20, 30]), ([10, 50], [9, 30, 40]), ([10, 50], [20, 30, 51])],
    "re10k_video": [([4, 7], [4, 5, 7]), ([4, 7], [5, 6]), ([4, 7], [4, 5, 6, 7, 8])],
    "re10k_extrapolation": [([40, 80], [20, 80, 110])],
    "rayzer_dl3dv_random": [([*range(0, 30, 2)], [*range(1, 17, 2)])],
}


@pytest.fixture
def index_of(tmp_path: Path) -> Callable[..., EvaluationIndex]:
    def write(entries: dict) -> EvaluationIndex:
        (tmp_path / "index.json").write_text(json.dumps(entries))
        return EvaluationIndex(path=tmp_path / "index.json")

    return write


@pytest.mark.parametrize(("name", "views"), GOOD.items())
def test_an_index_of_the_protocol_is_accepted_and_a_part_of_it_is_a_note(name, views, index_of):
    context, target = views
    index = index_of({"a": {"context": context, "target": target, "overlap": 0.3}, "b": None})
    sampler, notes = PROTOCOLS[name].view_sampler(index)
    assert sampler is index
    published = PROTOCOLS[name].entries
    assert len(notes) == 1
    assert f"has 2 scenes, 1 of them null; the published {PROTOCOLS[name].index} has {published[0]}" in notes[0]


@pytest.mark.parametrize(("name", "views"), [(name, views) for name, rows in BAD.items() for views in rows])
def test_an_index_of_another_protocol_is_refused(name, views, index_of):
    context, target = views
    with pytest.raises(InputError, match=rf"no index of protocol {name} .*'odd' has .*leave out --protocol"):
        PROTOCOLS[name].view_sampler(index_of({"odd": {"context": context, "target": target}}))


def test_e_rayzer_takes_its_ten_views():
    sampler, notes = find_protocol("erayzer_dl3dv").view_sampler(None)
    choice = sampler.sample("scene", 97, np.random.default_rng(0))
    assert notes == []
    assert choice.frames == tuple(int(place) for place in np.linspace(0, 96, 10))
    assert choice.context == (0, 21, 42, 64, 96)
    with pytest.raises(UnusableSceneError, match="96 frames, views up to frame 96 need 97"):
        sampler.sample("scene", 96, np.random.default_rng(0))


def test_open_rayzer_draws_sixteen_and_eight_in_its_window():
    sampler, _ = find_protocol("open_rayzer").view_sampler(None)
    for seed in range(20):
        choice = sampler.sample("scene", 300, np.random.default_rng(seed))
        assert (len(choice.context), len(choice.target)) == (16, 8)
        assert not {*choice.context} & {*choice.target}
        first, last = min(choice.frames), max(choice.frames)
        assert 48 <= last - first <= 96
        assert {first, last} <= {*choice.context}


def test_the_numbers_of_the_published_files():
    overlaps = [PROTOCOLS[f"re10k_overlap_{size}"].entries[0] for size in ("small", "medium", "large")]
    assert sum(overlaps) == 5601
    scenes, null = PROTOCOLS["re10k_2v3"].entries
    assert 3 * (scenes - null) == 19_422
    scenes, null = PROTOCOLS["acid_2v3"].entries
    assert 3 * (scenes - null) == 4_785


def test_every_protocol_has_a_file_or_a_rule_and_is_in_the_table():
    table = protocol_table()
    for name, protocol in PROTOCOLS.items():
        assert protocol.name == name
        assert bool(protocol.index) != bool(protocol.sampler)
        assert f"\n{name}\n" in f"\n{table}"
        assert protocol.rules in table


def test_real_clips_fit_the_two_view_protocols(shared_data: Path):
    index = EvaluationIndex(path=shared_data / "evaluation_index.json")
    for name in ("re10k_2v3", "acid_2v3", "re10k_overlap_small"):
        PROTOCOLS[name].view_sampler(index)
    for name in ("re10k_video", "re10k_extrapolation", "rayzer_dl3dv_even"):
        with pytest.raises(InputError, match="no index of protocol"):
            PROTOCOLS[name].view_sampler(index)
    clips = Chunks(root=shared_data / "re10k_style", split="test")
    clips.open()
    keys = [clips.key(scene) for scene in range(len(clips))]
    assert {key for key, choice in index.choices.items() if choice} <= {*keys}


def test_protocol_takes_names_of_both_kinds():
    assert split_names(["joint"], []) == ("", ("joint",))
    assert split_names(["re10k_2v3", "joint"], ["context_only"]) == ("re10k_2v3", ("joint", "context_only"))
    with pytest.raises(InputError, match="--protocol takes one protocol, got re10k_2v3 and acid_2v3"):
        split_names(["re10k_2v3", "acid_2v3"], [])
    with pytest.raises(InputError, match=r"no protocol or placement named 're10k'; did you mean 're10k_"):
        split_names(["re10k"], [])
    with pytest.raises(InputError, match=r"named 'contexts_only'; did you mean 'context_only'"):
        split_names([], ["contexts_only"])
