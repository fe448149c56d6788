"""Paths of datasets, view samplers and augmentations may be strings; no class is known by its name here."""

from inspect import Parameter
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest

from openrayzer.composer import construct, plan
from openrayzer.interfaces import AUGMENTATIONS, DATASETS, REGISTRIES, VIEW_SAMPLERS, Dataset, InputError
from registry import Entry

ENTRIES = [entry for registry in (DATASETS, VIEW_SAMPLERS, AUGMENTATIONS) for entry in registry]


def hints(entry: Entry) -> dict[str, Any]:
    found = get_type_hints(entry.target.__init__)
    return {parameter.name: found[parameter.name] for parameter in entry.parameters}


def paths_of(entry: Entry) -> list[str]:
    return [name for name, hint in hints(entry).items() if hint is Path or Path in get_args(hint)]


WITH_PATHS = [entry for entry in ENTRIES if paths_of(entry)]


def state(value: object) -> object:
    """Everything that an object knows, as nested values that compare by content."""
    known = getattr(value, "__dict__", None)
    return value if known is None else {name: state(inner) for name, inner in known.items()}


def outcome(entry: Entry, path: object) -> object:
    """The component with ``path`` as each of its paths and 2 as each other required value; or the refusal's message."""
    required = {parameter.name: 2 for parameter in entry.parameters if parameter.default is Parameter.empty}
    try:
        built = entry.target(**required | dict.fromkeys(paths_of(entry), path))
        if isinstance(built, Dataset):
            built.open()
    except InputError as error:
        return str(error)
    return state(built)


def test_every_dataset_has_a_path():
    assert {entry.name for entry in DATASETS} <= {entry.name for entry in WITH_PATHS}


@pytest.mark.parametrize("entry", WITH_PATHS, ids=lambda entry: entry.name)
def test_a_string_does_what_a_path_does(entry: Entry, tmp_path: Path):
    file = tmp_path / "file"  # most datasets need a folder instead
    file.write_text("{}")
    assert outcome(entry, str(file)) == outcome(entry, file)


@pytest.mark.parametrize("entry", WITH_PATHS, ids=lambda entry: entry.name)
def test_annotations_of_paths_name_both_types(entry: Entry):
    assert all({Path, str} <= {*get_args(hints(entry)[name])} for name in paths_of(entry))


@pytest.mark.parametrize("entry", list(DATASETS), ids=lambda entry: entry.name)
def test_a_path_in_json_becomes_a_path(entry: Entry):
    root = paths_of(entry)[0]
    planned = plan({"type": entry.name, root: "some/folder"}, Dataset, registries=REGISTRIES)
    assert planned.arguments[root] == Path("some/folder")
    assert getattr(construct(planned), root) == Path("some/folder")


@pytest.mark.parametrize("entry", list(DATASETS), ids=lambda entry: entry.name)
@pytest.mark.parametrize("value", [3, True, None, ["a"], {"a": "b"}])
def test_no_other_json_value_is_a_path(entry: Entry, value: object):
    with pytest.raises(InputError, match=r"expected Path \| str"):
        plan({"type": entry.name, paths_of(entry)[0]: value}, Dataset, registries=REGISTRIES)
