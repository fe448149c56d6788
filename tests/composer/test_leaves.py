"""Plain values: which JSON values fit an annotation; no value can import code."""

import subprocess
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from jsonargparse.typing import PositiveInt

from openrayzer.composer.leaves import LeafError, parse_leaf


class Size(Enum):
    SMALL = "s"
    LARGE = "l"


FITS = [
    (3, int, 3),
    (1, float, 1.0),
    (True, bool, True),
    ("128", str, "128"),
    ("", str, ""),
    ("a/b", Path, Path("a/b")),
    ("a/b", Path | str, Path("a/b")),
    ("svd", Literal["svd", "rot6d"], "svd"),
    ("LARGE", Size, Size.LARGE),
    ([1, 2], tuple[int, int], (1, 2)),
    ([1, 2.5], tuple[float, ...], (1.0, 2.5)),
    ([], tuple[int, ...], ()),
    ([[1], []], list[list[int]], [[1], []]),
    ({"a": 1}, dict[str, float], {"a": 1.0}),
    (None, int | None, None),
    ("7", int | str, "7"),
    (7, int | str, 7),
    (1, int | float, 1),
    (3, PositiveInt, 3),
]
FITS_NOT = [
    (128.0, int),
    (True, int),
    ("128", int),
    ("1.5", float),
    ("inf", float),
    (float("inf"), float),
    (10**400, float),
    (True, float),
    (1, bool),
    ("true", bool),
    (None, int),
    (None, str),
    (3, str),
    (3, Path),
    ("quat", Literal["svd", "rot6d"]),
    (1, Literal[True]),
    ("1", Literal[1, 2]),
    ("MEDIUM", Size),
    ([1, 2, 3], tuple[int, int]),
    ([1, "2"], tuple[int, ...]),
    ("12", tuple[int, ...]),
    ({"a": "1"}, dict[str, float]),
    (["a"], dict[str, float]),
    (-3, PositiveInt),
]


@pytest.mark.parametrize(("value", "hint", "meant"), FITS)
def test_a_value_that_fits_gets_the_annotated_type(value, hint, meant):
    parsed = parse_leaf(value, hint)
    assert parsed == meant
    assert type(parsed) in (type(meant), hint)


@pytest.mark.parametrize(("value", "hint"), FITS_NOT)
def test_a_value_that_does_not_fit_is_an_error(value, hint):
    with pytest.raises(LeafError, match=r"^expected .*, got "):
        parse_leaf(value, hint)


def test_messages_show_the_expected_type_and_the_value():
    with pytest.raises(LeafError, match=r"expected int, got '128'"):
        parse_leaf("128", int)
    with pytest.raises(LeafError, match=r"expected one of 'svd', 'rot6d', got 'quat'"):
        parse_leaf("quat", Literal["svd", "rot6d"])
    with pytest.raises(LeafError, match=r"expected tuple\[int, int\], got \[1\]"):
        parse_leaf([1], tuple[int, int])
    with pytest.raises(LeafError, match=r'expected str, got 5; write "5"'):
        parse_leaf(5, str)
    with pytest.raises(LeafError, match=r"expected int, got null"):
        parse_leaf(None, int)


@pytest.mark.parametrize("hint", [torch.nn.Linear, torch.nn.Module, type, Callable, Any, object, torch.dtype, bytes])
@pytest.mark.parametrize("value", ["torch.nn.Linear", "subprocess.Popen", {"class_path": "subprocess.Popen"}])
def test_an_arbitrary_class_is_an_error_before_the_parser_runs(value, hint, monkeypatch):
    monkeypatch.setattr(subprocess, "Popen", lambda *_: pytest.fail("ran"))
    with pytest.raises(LeafError, match="neither a registered interface, a dataclass nor a plain type"):
        parse_leaf(value, hint)


@pytest.mark.parametrize("value", ["torch.nn.Linear", "subprocess.Popen", "os.system"])
@pytest.mark.parametrize("hint", [Literal["svd"], Size, int, list[str], dict[str, str]])
def test_an_import_path_fits_only_str_and_path(value, hint):
    with pytest.raises(LeafError):
        parse_leaf(value, hint)
    assert parse_leaf(value, str) == value
    assert parse_leaf(value, Path) == Path(value)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists, max_leaves=5))
def test_every_json_value_is_converted_or_raises_a_leaf_error(value):
    for hint in (int, float, str, bool, Path, Size, tuple[int, str], list[float], dict[str, int], int | None):
        try:
            parse_leaf(value, hint)
        except LeafError:
            continue
