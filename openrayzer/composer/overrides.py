"""Changes of an experiment before the check: merging with a base, ``--set`` and ``--data``.

If a change gives a component another ``"type"``, it replaces the whole component, because the parameters of the old
type do not fit the new one. This does not apply to a field ``type`` of a dataclass.
"""

import json
import re
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

from openrayzer.composer.build import ExperimentError
from openrayzer.composer.files import parse_json
from openrayzer.composer.leaves import shown
from openrayzer.composer.schema import Schema, without_none
from openrayzer.interfaces import InputError

_STEP = re.compile(r"([^\[\]]*)((?:\[\d+\])*)")


def merge(base: Any, over: Any, hint: Any, schema: Schema) -> Any:
    """Merge ``over`` into ``base``: objects key by key; other values, including lists, are replaced.

    Args:
        base: JSON of the base.
        over: JSON of the file that extends it.
        hint: type annotation of both; None if it is unknown, as in ``shared``.
        schema: schema of the components.
    """
    if not (isinstance(base, dict) and isinstance(over, dict)):
        return deepcopy(over)
    if "type" in over and _changes_type(base, over["type"], hint, schema):
        return deepcopy(over)
    merged = dict(base)
    for key, value in over.items():
        inner = schema.child(hint, base, key)
        merged[key] = merge(base[key], value, inner, schema) if key in base else deepcopy(value)
    return merged


def apply_overrides(values: dict[str, Any], overrides: Sequence[str], hint: Any, schema: Schema) -> dict[str, Any]:
    """A copy of ``values`` with overrides such as ``a.b[0].c=value``, applied in order.

    A value that is not JSON is a string. Missing objects on the path are created; the plan checks later whether they
    are valid.

    Raises:
        ExperimentError: an override is malformed, or part of its path is not an object or list; the message lists all.
    """
    values, problems = deepcopy(values), []
    for override in overrides:
        try:
            _apply(values, override, hint, schema)
        except _OverrideError as error:
            problems.append(f"--set {override}: {error}")
    if problems:
        raise ExperimentError(problems)
    return values


def with_data_roots(values: dict[str, Any], roots: Sequence[Path | str]) -> dict[str, Any]:
    """``values`` with the chunk folders ``roots`` as the only sources of clips; each has a train and a test split."""
    data = values.get("data", {})
    if not roots or not isinstance(data, dict):
        return values
    sources = {
        split: [{"dataset": {"type": "chunks", "root": str(root), "split": split}} for root in roots]
        for split in ("train", "test")
    }
    return values | {"data": data | sources}


class _OverrideError(ValueError):
    """An override is malformed or does not fit the experiment."""


def number_at(values: dict[str, Any], place: str) -> float:
    """The number at the path ``place``, written as for ``--set``.

    Raises:
        InputError: there is no number.
    """
    found: Any = values
    try:
        for key in _keys(place):
            found = found[key]
    except (_OverrideError, LookupError, TypeError) as error:
        raise InputError(f"the experiment has no {place}") from error
    if isinstance(found, bool) or not isinstance(found, int | float):
        raise InputError(f"{place} is {found!r:.60} and not a number")
    return float(found)


def _apply(values: dict[str, Any], override: str, hint: Any, schema: Schema) -> None:
    place, equals, text = override.partition("=")
    if not equals:
        raise _OverrideError("expected KEY=VALUE, e.g. --set train.steps=100")
    keys, value = _keys(place), _value(text)
    if keys[0] in ("plugins", "extends"):
        raise _OverrideError(f"{keys[0]} can only be set in an experiment file")
    node: Any = values
    for position, key in enumerate(keys):
        if isinstance(node, list):
            key = _index(node, key, keys[:position])
        elif not isinstance(node, dict) or isinstance(key, int):
            raise _OverrideError(f"{_dotted(keys[:position])} is {shown(node)}, not {_wanted(key)}")
        if position == len(keys) - 1:
            if key == "type" and _changes_type(node, value, hint, schema):
                node.clear()
            node[key] = value
            return
        if isinstance(node, dict) and node.get(key) is None:
            node[key] = {}
        hint, node = schema.child(hint, node, key), node[key]


def _changes_type(spec: Any, name: Any, hint: Any, schema: Schema) -> bool:
    """True if ``spec`` is a component of another type; with an unknown annotation, a ``type`` marks a component."""
    if not isinstance(spec, dict) or spec.get("type", name) == name:
        return False
    inner, _ = without_none(hint)
    return hint is None or schema.registry(inner) is not None


def _keys(place: str) -> list[str | int]:
    keys: list[str | int] = []
    for step in place.strip().split("."):
        match = _STEP.fullmatch(step)
        if match is None or not step or (not match[1] and not keys):
            raise _OverrideError(f"{place!r} is not a path; write it like train.steps or data.train[0].weight")
        keys += [match[1]] if match[1] else []
        keys += [int(index) for index in re.findall(r"\d+", match[2])]
    return keys


def _value(text: str) -> Any:
    try:
        return parse_json(text)
    except ExperimentError as error:
        raise _OverrideError("; ".join(error.problems)) from error
    except (json.JSONDecodeError, ValueError):
        return text


def _index(node: list[Any], key: str | int, before: list[str | int]) -> int:
    if isinstance(key, str) and not key.isdecimal():
        raise _OverrideError(f"{_dotted(before)} is a list; write {_dotted(before)}[0].{key}")
    if int(key) >= len(node):
        raise _OverrideError(f"{_dotted(before)} has {len(node)} entries, counted from 0; there is no [{key}]")
    return int(key)


def _wanted(key: str | int) -> str:
    return "a list" if isinstance(key, int) else f"an object with a key {key!r}"


def _dotted(keys: list[str | int]) -> str:
    return "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in keys).lstrip(".")
