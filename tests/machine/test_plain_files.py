"""File names are sorted by their numbers, and large files are refused before they are read."""

import tracemalloc

import pytest

from openrayzer.machine.plain_files import FileError, list_folder, natural_order, read_json_object, read_plain_file


def test_numbers_in_names_are_in_order_of_their_size():
    names = ["a", "a0", "a1", "a02", "a2", "a9", "a10", "A10b", "a100", "a100_9", "a100_10", "b1"]
    backwards = names[::-1]
    assert sorted(backwards, key=natural_order) == names


def test_numbers_of_any_length_are_in_order():
    names = ["frame_7", "frame_" + "1" * 5000, "frame_" + "2" * 5000, "frame_1" + "0" * 5000]
    backwards = names[::-1]
    assert sorted(backwards, key=natural_order) == names


def test_a_link_to_itself_does_not_hide_its_neighbours(tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "scene").mkdir()
    (tmp_path / "1.png").write_bytes(b"")
    assert list_folder(tmp_path) == (["1.png", "loop"], ["scene"])


def test_a_small_file_takes_little_memory_whatever_is_allowed(tmp_path):
    path = tmp_path / "small"
    path.write_bytes(b"0123456789")
    tracemalloc.start()
    assert read_plain_file(path, root=None, limit=1 << 32) == b"0123456789"
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100_000


def test_json_that_would_take_gigabytes_is_refused_unread(tmp_path):
    path = tmp_path / "transforms.json"
    path.write_text('{"frames": [' + "[]," * 12_000_000 + "[]]}")
    with pytest.raises(FileError, match="it has 36000016 bytes, more than the 33554432 allowed"):
        read_json_object(path, root=None)
