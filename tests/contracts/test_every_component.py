"""What a component of any kind promises: a documented constructor, defaults that JSON can say, equal weights."""

import inspect
import re

import pytest
import torch
from small import entry_of, names
from torch import nn

from openrayzer.composer import ExperimentError, plan
from openrayzer.interfaces import REGISTRIES
from registry import Registry

COMPONENTS = pytest.mark.parametrize(
    ("registry", "name"), [pytest.param(r, n, id=f"{r.kind}-{n}") for r in REGISTRIES for n in names(r)]
)


@COMPONENTS
def test_every_parameter_is_described_under_args(registry: Registry, name: str):
    entry = entry_of(registry, name)
    described = set(re.findall(r"^    (\w+): ", inspect.getdoc(entry.target) or "", flags=re.MULTILINE))
    assert [parameter.name for parameter in entry.parameters if parameter.name not in described] == []


@COMPONENTS
def test_every_parameter_is_named_when_it_is_given(registry: Registry, name: str):
    assert {p.kind for p in entry_of(registry, name).parameters} <= {inspect.Parameter.KEYWORD_ONLY}


@COMPONENTS
def test_every_annotation_and_default_can_be_written_in_json(registry: Registry, name: str):
    problems = []
    try:
        plan({"type": name}, registry.interface, registries=REGISTRIES)
    except ExperimentError as error:  # it has required parameters
        problems = [problem for problem in error.problems if not problem.endswith("and missing")]
    assert problems == []


@COMPONENTS
def test_it_can_be_built_and_equal_seeds_give_equal_weights(small, registry: Registry, name: str):
    one, other = small(registry, name), small(registry, name)
    assert isinstance(one, registry.interface)
    if isinstance(one, nn.Module):
        weights = other.state_dict()
        assert all(torch.equal(value, weights[key]) for key, value in one.state_dict().items())
