"""Merging and overrides replace a component when its type changes, and merge everything else."""

from copy import deepcopy
from dataclasses import dataclass

import pytest

from openrayzer.composer.overrides import apply_overrides, merge
from openrayzer.composer.schema import Schema
from openrayzer.interfaces import CameraHead


@dataclass
class Run:
    type: str
    steps: int
    names: dict[str, int]


@dataclass
class Everything:
    run: Run
    head: CameraHead | None
    heads: tuple[CameraHead, ...]


BASE = {
    "run": {"type": "long", "steps": 50000, "names": {"type": 1, "other": 2}},
    "head": {"type": "pi3", "hidden_width": 2},
    "heads": [{"type": "pi3", "hidden_width": 2}],
    "shared": {"part": {"type": "a", "size": 1}},
}


@pytest.fixture
def schema(toys):
    return Schema(toys)


def test_a_field_named_type_of_a_dataclass_is_an_ordinary_field(schema):
    merged = merge(BASE, {"run": {"type": "short", "names": {"type": 3}}}, Everything, schema)
    assert merged["run"] == {"type": "short", "steps": 50000, "names": {"type": 3, "other": 2}}
    changed = apply_overrides(BASE, ["run.type=short", "run.names.type=3"], Everything, schema)
    assert changed["run"] == merged["run"]


def test_a_component_is_replaced_when_its_type_changes_and_merged_when_not(schema):
    assert merge(BASE, {"head": {"type": "rot6d"}}, Everything, schema)["head"] == {"type": "rot6d"}
    assert merge(BASE, {"head": {"type": "pi3", "width": 3}}, Everything, schema)["head"] == BASE["head"] | {"width": 3}
    assert merge(BASE, {"head": {"width": 3}}, Everything, schema)["head"] == BASE["head"] | {"width": 3}
    assert merge(BASE, {"head": None}, Everything, schema)["head"] is None
    assert merge({"head": {"width": 3}}, {"head": {"type": "pi3"}}, Everything, schema)["head"] == {
        "type": "pi3",
        "width": 3,
    }


def test_overrides_reach_into_lists_and_shared_components(schema):
    changed = apply_overrides(BASE, ["heads[0].type=rot6d", "shared.part.type=b"], Everything, schema)
    assert changed["heads"] == [{"type": "rot6d"}]
    assert changed["shared"] == {"part": {"type": "b"}}


def test_merge_and_overrides_do_not_modify_their_arguments(schema):
    base, over = deepcopy(BASE), {"head": {"type": "rot6d"}, "heads": [{"type": "rot6d"}]}
    merged = merge(base, over, Everything, schema)
    apply_overrides(merged, ["heads[0].focal=2", "run.steps=1"], Everything, schema)["head"]["focal"] = 5
    assert base == BASE
    assert over == {"head": {"type": "rot6d"}, "heads": [{"type": "rot6d"}]}
