"""The catalogue shows every entry, with what it takes and where it is written."""

from typing import Literal

import pytest

from registry import Registry, as_markdown, as_text


class Head:
    """Reads something.

    And more.
    """

    def __init__(self) -> None: ...


class Pi3(Head):
    """Three points."""

    def __init__(
        self, *, width: int, rotation: Literal["svd", "rot6d"] = "svd", focal: float | None = None
    ) -> None: ...


@pytest.fixture
def heads() -> Registry[Head]:
    registry = Registry("camera_head", Head)
    registry.register("pi3")(Pi3)
    return registry


def test_text_has_summary_location_and_parameters(heads):
    text = as_text([heads])
    assert text.startswith("camera_head  (Reads something.)")
    for wanted in ("pi3", "Three points.", "test_catalogue.Pi3", "width: int", "focal: float | None = None"):
        assert wanted in text
    assert "rotation: Literal['svd', 'rot6d'] = 'svd'" in text


def test_text_without_parameters_is_shorter(heads):
    text = as_text([heads], with_parameters=False)
    assert "Three points." in text
    assert "width" not in text


def test_every_registry_is_shown_in_the_order_given(heads):
    text = as_text([Registry("tokenizer", Head), heads])
    assert text.index("tokenizer") < text.index("camera_head")


def test_markdown_is_a_table_whose_cells_hold_their_bars(heads):
    lines = as_markdown([heads]).splitlines()
    assert lines[:4] == ["### camera_head", "", "| name | parameters | what it is |", "|---|---|---|"]
    (row,) = lines[4:]
    assert row.startswith("| `pi3` | `width: int`, ")
    assert row.endswith(" | Three points. |")
    assert row.replace("\\|", "").count("|") == 4


def test_the_catalogue_ends_at_the_summary_of_an_interface(heads):
    assert "And more" not in as_text([heads]) + as_markdown([heads])
