"""Conversion of one plain JSON value to a type annotation.

This file decides which JSON values fit an annotation; jsonargparse then converts them.
"""

import math
from enum import Enum
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from jsonargparse import ArgumentError, ArgumentParser

from registry import annotation_text

_UNIONS = (Union, UnionType)
_CONTAINERS = (list, tuple, dict)


class LeafError(ValueError):
    """A value does not fit its annotation."""


def parse_leaf(value: Any, hint: Any) -> Any:
    """Convert a JSON value to the type ``hint``: lists become tuples, strings become paths and enum members.

    Numbers must be JSON numbers: a string is not a number, and ``true`` and ``128.0`` are not ints. An int is a valid
    float. ``null`` is valid only if the annotation contains None.

    Raises:
        LeafError: the value does not fit, or ``hint`` is not a plain type. Other classes are refused before the parser
            runs, so a JSON value can never import code.
    """
    if not is_plain(hint):
        raise LeafError(f"{annotation_text(hint)} is neither a registered interface, a dataclass nor a plain type")
    try:
        return _parse(value, hint)
    except (ArgumentError, TypeError, ValueError, OverflowError) as error:
        quote = f'; write "{value}"' if hint is str and isinstance(value, bool | int | float) else ""
        raise LeafError(f"expected {_expected(hint)}, got {shown(value)}{quote}") from error


def is_plain(hint: Any) -> bool:
    """True for numbers, strings, None, Path, Enum and Literal, and for lists, tuples, dicts and unions of them."""
    origin, inner = get_origin(hint), [arg for arg in get_args(hint) if arg is not Ellipsis]
    if origin is Literal:
        return True
    if origin is dict and inner[0] is not str:
        return False
    if inner:
        return origin in (*_UNIONS, *_CONTAINERS) and all(map(is_plain, inner))
    return isinstance(hint, type) and (hint is NoneType or issubclass(hint, bool | int | float | str | Path | Enum))


def shown(value: Any) -> str:
    """The value for a message, at most 60 characters long, with JSON's spelling of true, false and null."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return f"{value!r:.60}"


def _expected(hint: Any) -> str:
    if isinstance(hint, type) and issubclass(hint, Enum):
        return f"one of {', '.join(repr(member.name) for member in hint)}"
    if get_origin(hint) is Literal:
        return f"one of {', '.join(map(repr, get_args(hint)))}" if len(get_args(hint)) > 1 else repr(*get_args(hint))
    return annotation_text(hint)


def _parse(value: Any, hint: Any) -> Any:
    origin = get_origin(hint)
    if origin in _UNIONS:
        return _parse_union(value, get_args(hint))
    if origin in _CONTAINERS:
        return _parse_container(value, origin, get_args(hint))
    if hint is NoneType:
        if value is not None:
            raise TypeError
        return None
    if origin is Literal:
        return _parse_literal(value, get_args(hint))
    if not isinstance(value, _json_type(hint)) or (isinstance(value, bool) and hint is not bool):
        raise TypeError
    if issubclass(hint, str):
        return hint(value)
    parsed = _parser(hint).parse_object({"value": value}).value
    if isinstance(parsed, float) and not math.isfinite(parsed):
        raise ValueError
    return Path(parsed) if issubclass(hint, Path) else parsed


def _json_type(hint: type) -> type | tuple[type, ...]:
    """Python types of the JSON values that fit ``hint``."""
    if issubclass(hint, Enum | Path | str):
        return str
    if issubclass(hint, float):
        return (int, float)
    return bool if hint is bool else int


def _parse_literal(value: Any, literals: tuple[Any, ...]) -> Any:
    if not any(type(literal) is type(value) and literal == value for literal in literals):
        raise TypeError  # 1 is not True, and "1" is not 1
    return value


def _parse_union(value: Any, members: tuple[Any, ...]) -> Any:
    if isinstance(value, str) and "://" in value and str in members:
        return value  # a Path would join the slashes of an address
    for member in members:
        try:
            return _parse(value, member)
        except (ArgumentError, TypeError, ValueError, OverflowError):
            continue
    raise TypeError


def _parse_container(value: Any, origin: type, inner: tuple[Any, ...]) -> Any:
    if origin is dict:
        if not isinstance(value, dict):
            raise TypeError
        return {key: _parse(item, inner[1]) for key, item in value.items()}
    if not isinstance(value, list):
        raise TypeError
    if origin is list or inner[-1] is Ellipsis:
        return origin(_parse(item, inner[0]) for item in value)
    return tuple(_parse(item, hint) for item, hint in zip(value, inner, strict=True))


@cache
def _parser(hint: Any) -> ArgumentParser:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--value", type=hint)
    return parser
