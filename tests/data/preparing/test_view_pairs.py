"""prepare_data.py pairs: an evaluation can use the choices, and equal seeds give equal choices."""

import json

import numpy as np
import pytest

from openrayzer.data.preparing.view_pairs import PairRule, make_pairs, overlap
from openrayzer.data.sampling.evaluation_index import EvaluationIndex
from openrayzer.data.sources.chunks import Chunks
from openrayzer.interfaces import Frames, InputError


def opened(root, **settings) -> Chunks:
    dataset = Chunks(root=root, **settings)
    dataset.open()
    return dataset


def camera(*, x: float = 0.0, turned: float = 0.0) -> Frames:
    c2w = np.eye(4, dtype=np.float32)
    c2w[0, 0] = c2w[2, 2] = np.cos(turned)
    c2w[0, 2], c2w[2, 0] = np.sin(turned), -np.sin(turned)
    c2w[0, 3] = x
    return Frames([], c2w[None], np.array([[1.0, 1.0, 0.5, 0.5]], np.float32))


def test_choices_keep_the_rule_and_repeat(write_root, make_scene):
    dataset = opened(write_root([make_scene("long", frames=60), make_scene("longer", frames=90), make_scene("short")]))
    rule = PairRule(num_context=3, num_target=4, gap=(20, 30))
    pairs, problems = make_pairs(dataset, rule, processes=1)
    assert problems == []
    assert pairs["short"] is None
    for key in ("long", "longer"):
        context, target = pairs[key]["context"], pairs[key]["target"]
        assert 20 <= context[-1] - context[0] <= 30
        assert len(context) == 3
        assert target == sorted(set(target) - set(context))
        assert all(context[0] < frame < context[-1] for frame in target)
    assert make_pairs(dataset, rule, processes=2)[0] == pairs
    assert make_pairs(dataset, PairRule(3, 4, (20, 30), seed=1), processes=1)[0] != pairs


def test_missing_frames_are_never_chosen(write_root, make_scene):
    scene = make_scene("a", frames=30)
    for frame in range(0, 30, 4):
        scene.images[frame] = b""
    dataset = opened(write_root([scene]))
    for seed in range(5):
        choice = make_pairs(dataset, PairRule(gap=(5, 20), seed=seed), processes=1)[0]["a"]
        assert choice is not None
        assert not [frame for frame in (*choice["context"], *choice["target"]) if frame % 4 == 0]


def test_overlap_of_a_camera_with_itself_is_one_and_with_its_back_none():
    assert overlap(camera(), camera(), [1.0, 2.0]) == 1
    assert overlap(camera(), camera(turned=np.pi), [1.0, 2.0]) == 0


def test_overlap_falls_with_distance_and_is_symmetric():
    shares = [overlap(camera(), camera(x=x), [1.0]) for x in (0, 0.25, 0.5, 1.1)]
    assert shares == [1.0, 0.75, 0.5, 0.0]
    assert overlap(camera(), camera(x=0.4, turned=0.3), [1.0, 4.0]) == overlap(
        camera(x=0.4, turned=0.3), camera(), [1.0, 4.0]
    )


def test_pairs_by_overlap_are_within_it(write_root, make_scene):
    dataset = opened(write_root([make_scene("a", frames=40)]))
    pairs, _ = make_pairs(dataset, PairRule(gap=(4, 39), overlap=(0.5, 0.8)), processes=1)
    assert 0.5 <= pairs["a"]["overlap"] <= 0.8
    assert make_pairs(dataset, PairRule(gap=(30, 39), overlap=(0.99, 1.0)), processes=1)[0] == {"a": None}


def test_the_sampler_reads_the_index_of_the_tool(prepare, write_root, make_scene, tmp_path):
    root = write_root([make_scene("a", frames=30), make_scene("b")])
    done = prepare("pairs", "--from", "chunks", root, "--gap", 10, 20, "--output", tmp_path / "index.json")
    assert done.returncode == 0
    assert "1 scenes with 2 context and 3 target frames, 1 null" in done.stdout
    sampler = EvaluationIndex(path=tmp_path / "index.json")
    assert len(sampler.sample("a", 30, np.random.default_rng(0)).context) == 2
    assert json.loads((tmp_path / "index.json").read_text())["b"] is None


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        (PairRule(num_context=1), "two context frames"),
        (PairRule(gap=(3, 9)), "need gaps of 4 or more"),
        (PairRule(gap=(9, 5)), "smallest first, got 9 and 5"),
        (PairRule(overlap=(0.5, 1.5)), "overlaps must be from 0 to 1"),
    ],
)
def test_rules_that_fit_nothing_are_refused(write_root, make_scene, rule, said):
    with pytest.raises(InputError, match=said):
        make_pairs(opened(write_root([make_scene("a")])), rule, processes=1)


def test_overlap_without_cameras_is_refused(write_root, make_scene):
    dataset = opened(write_root([make_scene("a")]), posed=False)
    with pytest.raises(InputError, match="overlap needs cameras"):
        make_pairs(dataset, PairRule(overlap=(0.0, 1.0)), processes=1)


def test_rule_that_fits_no_scene_writes_nothing(prepare, write_root, make_scene, tmp_path):
    root = write_root([make_scene("a"), make_scene("b")])
    done = prepare("pairs", "--from", "chunks", root, "--output", tmp_path / "index.json")
    assert done.returncode == 1
    assert "no scene of 2 has 2 context and 3 target frames with gaps of 45 to 135 frames" in done.stderr
    overlap = ("--gap", 4, 6, "--overlap", 0, 0)
    done = prepare("pairs", "--from", "chunks", root, "--output", tmp_path / "index.json", *overlap)
    assert (done.returncode, "frames and overlaps of 0 to 0" in done.stderr) == (1, True)
    assert not (tmp_path / "index.json").exists()
