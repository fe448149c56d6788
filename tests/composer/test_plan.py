"""plan, construct and resolved: all problems in one error, values and defaults, deterministic weights."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from torch import nn

from openrayzer.composer import ExperimentError, construct, plan, resolved
from openrayzer.interfaces import CameraHead, Fusion, InputError, Model, Tokenizer
from registry import Registry

SHARED = {"width": 4, "patch_size": 8}


def problems(spec, interface, registries, **others) -> tuple[str, ...]:
    with pytest.raises(ExperimentError) as caught:
        plan(spec, interface, registries=registries, **others)
    assert str(caught.value).startswith(f"{len(caught.value.problems)} problem(s)\n")
    assert isinstance(caught.value, InputError)
    return caught.value.problems


@pytest.fixture
def model(spec):
    return spec["model"]


def test_one_error_lists_all_problems_with_paths_and_close_matches(model, toys):
    model["camera_head"] = {"type": "pi3", "hidden_widht": 3, "rotation": "quat"}
    model["more"] = [{"type": "pi3"}, {"type": "rot6d", "focal": "1"}, {"type": "pi4"}, "pi3"]
    model["tokenizer"]["patch_size"] = 8.0
    found = problems(model, Model, toys, shared={"width": 4, "patch_size": 8}, path="model")
    assert set(found) == {
        "model.tokenizer.patch_size: expected int, got 8.0",
        "model.camera_head.hidden_widht: 'pi3' has no such parameter; did you mean 'hidden_width'? "
        "known: hidden_width, rotation, width",
        "model.camera_head.rotation: expected one of 'svd', 'rot6d', got 'quat'",
        "model.more[1].focal: expected float, got '1'",
        "model.more[2].type: no camera_head named 'pi4'; did you mean 'pi3'? known: pi3, rot6d",
        "model.more[3]: expected {\"type\": <camera_head>, ...}, got 'pi3'",
    }


def test_missing_values_are_named_with_their_path(model, toys):
    del model["camera_head"]
    assert problems(model, Model, toys, path="model") == (
        "model.width: required by 'toy' and missing",
        "model.patch_size: required by 'toy' and missing",
        "model.tokenizer.width: required by 'linear' and missing",
        "model.tokenizer.patch_size: required by 'linear' and missing",
        "model.camera_head: required by 'toy' and missing",
    )


@pytest.mark.parametrize("name", ["torch.nn.Linear", "subprocess.Popen", "os.system", "openrayzer.cli"])
def test_an_import_path_is_not_a_type(name, model, toys):
    model["camera_head"] = {"type": name}
    (problem,) = problems(model, Model, toys, shared=SHARED, path="model")
    assert problem.startswith(f"model.camera_head.type: no camera_head named '{name}'")


@pytest.mark.parametrize("given", [{"class_path": "torch.nn.Linear"}, {"type": ["pi3"]}, {"type": None}, [], 3, None])
def test_a_value_that_is_not_a_component_is_an_error(given, model, toys):
    model["camera_head"] = given
    (problem,) = problems(model, Model, toys, shared=SHARED, path="model")
    assert problem.startswith('model.camera_head: expected {"type": <camera_head>, ...}, got')


def test_a_constructor_parameter_with_an_arbitrary_class_is_an_error():
    registry = Registry("fusion", Fusion)

    class Open(Fusion):
        """Takes anything."""

        def __init__(self, *, layer: nn.Module, factory: Callable[[], int]) -> None: ...
        def forward(self, images, tokens, plucker): ...

    registry.register("open")(Open)
    found = problems({"type": "open", "layer": "torch.nn.Linear", "factory": "os.system"}, Fusion, [registry])
    assert [problem.partition(" ")[0] for problem in found] == ["layer:", "factory:"]
    assert all("neither a registered interface" in problem for problem in found)


def test_shared_fills_required_parameters_only(model, toys):
    planned = plan(model, Model, registries=toys, shared=SHARED)
    assert planned.arguments["width"] == planned.arguments["tokenizer"].arguments["width"] == 4
    model["width"], model["camera_head"]["width"] = 6, 6
    planned = plan(model, Model, registries=toys, shared=SHARED)
    assert planned.arguments["width"] == 6
    assert planned.arguments["tokenizer"].arguments["width"] == 4


def test_an_unused_shared_key_is_an_error(model, toys):
    (problem,) = problems(model, Model, toys, shared=SHARED | {"patch_sise": 8})
    assert problem.startswith(
        "shared.patch_sise: no component takes this; remove it or fix its name; did you mean 'pat"
    )
    (problem,) = problems(model, Model, toys, shared=SHARED | {"hidden_width": 8})
    assert problem == (
        "shared.hidden_width: not needed, because every 'hidden_width' has a value or a default; remove it"
    )


def test_a_shared_value_can_be_a_component_and_is_checked_like_one(model, toys):
    del model["camera_head"]
    planned = plan(model, Model, registries=toys, shared=SHARED | {"camera_head": {"type": "rot6d"}})
    assert planned.arguments["camera_head"].name == "rot6d"
    (problem,) = problems(model, Model, toys, shared=SHARED | {"camera_head": {"type": "rot6d", "fokal": 1}})
    assert problem.startswith("shared.camera_head.fokal: 'rot6d' has no such parameter; did you mean 'focal'")


def test_values_have_the_annotated_types(model, toys):
    model |= {"more": [{"type": "pi3"}, {"type": "rot6d"}], "colour": "BLUE", "weights": "w.pt", "scales": {"a": 1}}
    built = construct(plan(model, Model, registries=toys, shared=SHARED))
    assert isinstance(built.more, tuple)
    assert [type(head).__name__ for head in built.more] == ["Pi3", "Rot6d"]
    assert (built.colour.name, built.weights, built.betas) == ("BLUE", Path("w.pt"), (0.9, 0.95))
    assert built.scales == {"a": 1.0}
    assert built.extra is None


def test_resolved_is_plain_json_with_an_equal_plan(model, toys):
    model |= {"more": [{"type": "rot6d"}], "colour": "BLUE", "weights": "w.pt", "extra": {"type": "pi3", "width": 2}}
    planned = plan(model, Model, registries=toys, shared=SHARED)
    text = json.loads(json.dumps(resolved(planned)))
    assert text["camera_head"] == {"type": "pi3", "width": 4, "hidden_width": 8, "rotation": "svd"}
    assert text["betas"] == [0.9, 0.95]
    assert plan(text, Model, registries=toys) == planned


def test_key_order_never_changes_the_weights(model, toys):
    def weights(spec):
        torch.manual_seed(0)
        return construct(plan(spec, Model, registries=toys, shared=SHARED)).state_dict()

    model["camera_head"]["hidden_width"] = 3
    permuted = {
        key: dict(reversed(value.items())) if isinstance(value, dict) else value for key, value in model.items()
    }
    one, other = weights(model), weights(dict(reversed(permuted.items())))
    assert list(one) == list(other)
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_building_on_meta_takes_no_memory(model, toys):
    with torch.device("meta"):
        built = construct(plan(model, Model, registries=toys, shared=SHARED))
    assert {weight.device.type for weight in built.parameters()} == {"meta"}


def test_one_error_lists_all_errors_of_constructors_with_their_paths(model, toys):
    model["camera_head"]["hidden_width"], model["more"] = 0, [{"type": "rot6d"}, {"type": "pi3", "hidden_width": -1}]
    planned = plan(model, Model, registries=toys, shared=SHARED, path="model")
    with pytest.raises(ExperimentError) as caught:
        construct(planned)
    assert caught.value.problems == (
        "model.camera_head: hidden_width must be 1 or more, got 0",
        "model.more[1]: hidden_width must be 1 or more, got -1",
    )
    assert isinstance(caught.value.__cause__, InputError)
    planned = plan(
        {**model, "width": 3, "camera_head": {"type": "pi3"}, "more": []}, Model, registries=toys, shared=SHARED
    )
    with pytest.raises(ExperimentError, match="experiment: width must be even, got 3"):
        construct(planned)


@dataclass(frozen=True, kw_only=True)
class Inner:
    type: str = "plain"
    sizes: tuple[int, int] = (1, 2)


@dataclass(frozen=True, kw_only=True)
class Outer:
    heads: tuple[CameraHead, ...]
    inner: Inner = field(default_factory=Inner)
    many: list[Inner] = field(default_factory=lambda: [Inner(sizes=(3, 4))])
    maybe: Inner | None = None


def test_dataclasses_nest_and_resolved_has_their_defaults(toys):
    planned = plan({"heads": [{"type": "rot6d"}]}, Outer, registries=toys)
    text = resolved(planned)
    assert text == {
        "heads": [{"type": "rot6d", "canonical": "middle", "focal": 1.25}],
        "inner": {"type": "plain", "sizes": [1, 2]},
        "many": [{"type": "plain", "sizes": [3, 4]}],
        "maybe": None,
    }
    assert plan(text, Outer, registries=toys) == planned
    built = construct(planned)
    assert (built.inner, built.many, built.maybe) == (Inner(), [Inner(sizes=(3, 4))], None)
    found = problems({"heads": {}, "inner": 3, "many": [{"sizes": [1]}], "maybe": {"typ": ""}}, Outer, toys)
    assert [problem.partition(":")[0] for problem in found] == ["heads", "inner", "many[0].sizes", "maybe.typ"]


def test_a_default_that_does_not_fit_its_annotation_is_an_error():
    @dataclass
    class Sloppy:
        width: int = None  # type: ignore[assignment]

    assert problems({}, Sloppy, []) == ("width (its default): expected int, got null",)


def test_an_unknown_component_makes_no_shared_key_an_error(model, toys):
    model["tokenizer"] = {"type": "linaer"}
    found = problems(model, Model, toys, shared=SHARED | {"depth": 3}, path="model")
    assert found == ("model.tokenizer.type: no tokenizer named 'linaer'; did you mean 'linear'? known: linear",)


def test_two_interfaces_in_one_annotation_are_an_error(toys):
    @dataclass
    class Either:
        part: CameraHead | Tokenizer

    (problem,) = problems({"part": {"type": "pi3"}}, Either, toys)
    assert "neither a registered interface" in problem
