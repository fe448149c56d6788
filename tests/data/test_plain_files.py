"""Names of files are put in order whatever they are."""

from openrayzer.data.plain_files import natural_order


def test_numbers_in_names_are_in_order_of_their_size():
    names = ["a", "a0", "a1", "a02", "a2", "a9", "a10", "A10b", "a100", "a100_9", "a100_10", "b1"]
    backwards = names[::-1]
    assert sorted(backwards, key=natural_order) == names


def test_numbers_of_any_length_are_in_order():
    names = ["frame_7", "frame_" + "1" * 5000, "frame_" + "2" * 5000, "frame_1" + "0" * 5000]
    backwards = names[::-1]
    assert sorted(backwards, key=natural_order) == names
