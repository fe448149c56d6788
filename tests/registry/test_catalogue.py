"""The catalogue shows the name, summary, parameters and location of every entry."""

from pathlib import Path
from typing import Literal

import pytest

from registry import Registry, annotation_text, as_markdown, as_text


class Head:
    """Tokens to cameras.

    More details.
    """

    def __init__(self) -> None: ...


class Pi3(Head):
    """Nine numbers."""

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
    assert text.startswith("camera_head  (Tokens to cameras.)")
    for wanted in ("pi3", "Nine numbers.", "test_catalogue.Pi3", "width: int", "focal: float | None = None"):
        assert wanted in text
    assert "rotation: Literal['svd', 'rot6d'] = 'svd'" in text


@pytest.mark.parametrize(
    ("hint", "text"),
    [
        (int, "int"),
        (Path, "Path"),
        (Head, "Head"),
        (Path | str | None, "Path | str | None"),
        (Head | None, "Head | None"),
        (tuple[Head, ...], "tuple[Head, ...]"),
        (tuple[int, int], "tuple[int, int]"),
        (dict[str, list[Path]], "dict[str, list[Path]]"),
        (Literal["svd", "a.File", "typing.Any"], "Literal['svd', 'a.File', 'typing.Any']"),
    ],
)
def test_annotations_have_no_module_names_and_keep_their_strings(hint, text):
    assert annotation_text(hint) == text


def test_text_can_omit_the_parameters(heads):
    text = as_text([heads], with_parameters=False)
    assert "Nine numbers." in text
    assert "width" not in text


def test_registries_keep_their_order(heads):
    text = as_text([Registry("tokenizer", Head), heads])
    assert text.index("tokenizer") < text.index("camera_head")


def test_markdown_is_a_table_with_escaped_bars(heads):
    lines = as_markdown([heads]).splitlines()
    assert lines[:4] == ["### camera_head", "", "| name | parameters | summary |", "|---|---|---|"]
    (row,) = lines[4:]
    assert row.startswith("| `pi3` | `width: int`, ")
    assert row.endswith(" | Nine numbers. |")
    assert row.replace("\\|", "").count("|") == 4


def test_only_the_first_line_of_an_interface_is_in_the_catalogue(heads):
    assert "More details" not in as_text([heads]) + as_markdown([heads])
