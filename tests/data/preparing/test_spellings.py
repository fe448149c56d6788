"""Options are spelt with ``_``; those that once had a ``-`` still work with it, and only the new spelling is shown."""

import re

import pytest

from openrayzer.data.sources.chunks import Chunks


def test_an_old_spelling_does_what_the_new_one_does(write_root, make_scene, prepare, tmp_path):
    root = write_root([make_scene("a")])
    for option in ("--short_side", "--short-side"):
        done = prepare("convert", "--from", "chunks", root, "--output", tmp_path / option, option, 12)
        assert done.returncode == 0, done.stderr
        dataset = Chunks(root=tmp_path / option)
        dataset.open()
        assert dataset.read(0, [0]).images[0].shape == (12, 16, 3)


def test_the_default_is_that_of_the_new_spelling(write_root, make_scene, prepare, tmp_path):
    root = write_root([make_scene("a")])
    done = prepare("convert", "--from", "chunks", root, "--output", tmp_path / "out", "--chunk-megabytes", "0.001")
    assert done.returncode == 0, done.stderr
    assert prepare("convert", "--from", "chunks", root, "--output", tmp_path / "other").returncode == 0


@pytest.mark.parametrize("command", ["index", "verify", "convert", "split", "pairs", "overlap", "stats", "process"])
def test_help_shows_no_old_spelling(prepare, command):
    assert not re.findall(r"--\w+-\w+", prepare(command, "--help").stdout)
