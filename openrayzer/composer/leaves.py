"""Check one plain JSON value against one type annotation: what it may be is ours, what it means is jsonargparse's."""

import math
from enum import Enum
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from jsonargparse import ArgumentError, ArgumentParser

_UNIONS = (Union, UnionType)
_CONTAINERS = (list, tuple, dict)


class LeafError(ValueError):
    """A value that does not fit its annotation."""


def parse_leaf(value: Any, hint: Any) -> Any:
    """``value``, as JSON gives it, as ``hint``: lists become tuples, strings become paths and enum members.

    JSON has its own numbers, so a string never passes for one, nor ``true`` or ``128.0`` for an int. An int passes
    for a float. ``null`` passes only where the annotation says None.

    Raises:
        LeafError: the value does not fit, or ``hint`` is not a plain type (an import path must never enter through
            a JSON value, so arbitrary classes are refused before anything is parsed).
    """
    if not is_plain(hint):
        raise LeafError(f"{hint_name(hint)} is neither a registered interface, a dataclass nor a plain type")
    try:
        return _parse(value, hint)
    except (ArgumentError, TypeError, ValueError, OverflowError) as error:
        quote = f'; write "{value}"' if hint is str and isinstance(value, bool | int | float) else ""
        raise LeafError(f"expected {_expected(hint)}, got {shown(value)}{quote}") from error


def is_plain(hint: Any) -> bool:
    """Whether ``hint`` is built of numbers, strings, None, Path, Enum, Literal and lists, tuples, dicts, unions."""
    origin, inner = get_origin(hint), [arg for arg in get_args(hint) if arg is not Ellipsis]
    if origin is Literal:
        return True
    if origin is dict and inner[0] is not str:
        return False
    if inner:
        return origin in (*_UNIONS, *_CONTAINERS) and all(map(is_plain, inner))
    return isinstance(hint, type) and (hint is NoneType or issubclass(hint, bool | int | float | str | Path | Enum))


def hint_name(hint: Any) -> str:
    """The annotation as a person writes it."""
    if isinstance(hint, type) and not get_args(hint):
        return hint.__name__
    return str(hint).replace("typing.", "").replace("pathlib.", "")


def shown(value: Any) -> str:
    """The value for a message, cut to 60 characters; JSON's spelling of true, false and null."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return f"{value!r:.60}"


def _expected(hint: Any) -> str:
    if isinstance(hint, type) and issubclass(hint, Enum):
        return f"one of {', '.join(repr(member.name) for member in hint)}"
    if get_origin(hint) is Literal:
        return f"one of {', '.join(map(repr, get_args(hint)))}" if len(get_args(hint)) > 1 else repr(*get_args(hint))
    return hint_name(hint)


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
    """What a JSON value must be before jsonargparse sees it."""
    if issubclass(hint, Enum | Path | str):
        return str
    if issubclass(hint, float):
        return (int, float)
    return bool if hint is bool else int


def _parse_literal(value: Any, literals: tuple[Any, ...]) -> Any:
    if not any(type(literal) is type(value) and literal == value for literal in literals):
        raise TypeError  # 1 is no True, "1" is no 1
    return value


def _parse_union(value: Any, members: tuple[Any, ...]) -> Any:
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
