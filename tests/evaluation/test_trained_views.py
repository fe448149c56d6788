"""A note says that a model whose position encoding counts views is evaluated with another number than in training."""

import pytest
from small_models import lvsm, rayzer

from openrayzer.evaluation.trained_views import trained_views_notes
from openrayzer.interfaces import ViewChoice

FIVE = [ViewChoice(context=(0, 8), target=(2, 4, 6))]
WINDOW = {"type": "window", "num_context": 16, "num_target": 8}


def counting():
    return rayzer(position_encoding="camera_index")


@pytest.mark.parametrize(("model", "sampler", "numbers"), [
    (counting, WINDOW, "clips of 5 views; the model was trained with 24,"),
    (rayzer, WINDOW, "trained with 24,"),
    (counting, {"num_context": [2, 3], "num_target": 4}, "trained with 6 to 7,"),
    (counting, {"num_views": 6}, "trained with 6,"),
    (counting, {"num_context": 2, "num_target": 3}, ""),
    (counting, {"num_context": [1, 3], "num_target": 3}, ""),
    (counting, {"num_context": 2, "num_target": 5, "split": "lvsm"}, ""),
    (counting, {"type": "another"}, ""),
    (lambda: rayzer(position_encoding="none"), WINDOW, ""),
    (lvsm, WINDOW, ""),
])  # fmt: skip
def test_another_number_of_views_is_noted_where_it_matters(model, sampler, numbers):
    notes = trained_views_notes(model(), FIVE, sampler)
    assert bool(notes) == bool(numbers)
    assert all(numbers in note for note in notes)
