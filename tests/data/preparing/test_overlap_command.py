"""prepare_data.py overlap: the table that the view sampler "overlap_curriculum" reads."""

import json
from pathlib import Path

import numpy as np
import pytest

from openrayzer.data.sampling.overlap_tables import read_overlap_tables

LINEAR = '{"type": "linear", "width": 32, "patch_size": 16}'


def test_tables_of_all_scenes_are_written_and_the_sampler_reads_them(prepare, write_root, make_scene, tmp_path: Path):
    """The tokenizer is random; the scenes are noise, in which no keypoint is found again."""
    root = write_root([make_scene("attic", frames=9), make_scene("short", frames=2)], [make_scene("cellar", frames=5)])
    output = tmp_path / "tables" / "overlap.json"
    done = prepare(
        "overlap", "--from", "chunks", root, "--output", output, "--tokenizer", LINEAR, "--samples", 2,
        "--max_interval", 3, "--processes", 2,
    )  # fmt: skip
    assert done.returncode == 1  # a scene is too short
    assert "tables of 2 scenes" in done.stdout
    assert "problem: scene 'short' has 2 frames, and no three evenly spaced frames are usable" in done.stdout
    assert set(read_overlap_tables(output)) == {"attic", "cellar"}
    tables = json.loads(output.read_text())
    assert list(tables["attic"]) == ["1", "2", "3"]
    assert list(tables["cellar"]) == ["1", "2"]
    assert all(0 <= value <= 1 for table in tables.values() for value in table.values())


def test_keypoints_are_what_is_compared_by_default(prepare, write_root, make_scene, tmp_path: Path):
    root = write_root([make_scene("attic", frames=5)])
    done = prepare("overlap", "--from", "chunks", root, "--output", tmp_path / "overlap.json")
    assert done.returncode == 0, done.stdout
    assert np.isclose(list(json.loads((tmp_path / "overlap.json").read_text())["attic"].values()), 0).all()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--tokenizer", "[]"], '--tokenizer must be an object like {"type"'),
        (["--tokenizer", '{"type": "liner"}'], "no tokenizer named 'liner'; did you mean 'linear'"),
        (["--samples", "0"], "--samples and --max_interval must be 1 or more"),
    ],
)
def test_wrong_input_is_answered(prepare, write_root, make_scene, tmp_path: Path, given: list[str], message: str):
    root = write_root([make_scene("attic", frames=5)])
    done = prepare("overlap", "--from", "chunks", root, "--output", tmp_path / "overlap.json", *given)
    assert done.returncode == 2
    assert message in done.stderr
    assert not (tmp_path / "overlap.json").exists()


def test_a_source_without_any_table_writes_none(prepare, write_root, make_scene, tmp_path: Path):
    root = write_root([make_scene("short", frames=2)])
    done = prepare("overlap", "--from", "chunks", root, "--output", tmp_path / "overlap.json")
    assert done.returncode == 1
    assert "scene 'short' has 2 frames" in done.stderr
    assert not (tmp_path / "overlap.json").exists()


def test_output_that_cannot_be_written_is_told(prepare, write_root, make_scene, tmp_path: Path):
    root = write_root([make_scene("attic", frames=5)])
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.json").mkdir()
    for output in (tmp_path / "file" / "overlap.json", tmp_path / "folder.json"):
        done = prepare("overlap", "--from", "chunks", root, "--output", output)
        assert done.returncode == 2
        assert f"{output} cannot be written: " in done.stderr
    assert not list(tmp_path.glob(".folder*"))
