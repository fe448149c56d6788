"""A registry finds classes by name and rejects classes without a complete, typed constructor."""

import sys
from abc import ABC, abstractmethod

import pytest

from registry import (
    ContractError,
    DuplicateNameError,
    Registry,
    RegistryError,
    UnknownNameError,
    did_you_mean,
)


class Head(ABC):
    """Tokens to cameras."""

    def __init__(self) -> None: ...

    @abstractmethod
    def read(self) -> int: ...


class Pi3(Head):
    """Nine numbers.

    More details.
    """

    def __init__(self, *, width: int, name: str = "x") -> None: ...
    def read(self) -> int:
        return 3


class Rot6d(Head):
    """Six numbers."""

    def read(self) -> int:
        return 6


@pytest.fixture
def heads() -> Registry[Head]:
    registry = Registry("camera_head", Head)
    registry.register("rot6d")(Rot6d)
    registry.register("pi3")(Pi3)
    return registry


def test_a_class_is_found_under_its_name(heads):
    assert heads["pi3"] is Pi3
    assert "pi3" in heads
    assert "pi4" not in heads
    assert len(heads) == 2
    assert heads.name_of(Rot6d) == "rot6d"


def test_the_decorator_returns_the_class_unchanged():
    assert Registry("camera_head", Head).register("pi3")(Pi3) is Pi3


def test_entries_are_in_name_order_with_summary_location_and_parameters(heads):
    first, second = heads
    assert (first.name, second.name) == ("pi3", "rot6d")
    assert first.summary == "Nine numbers."
    assert first.location.endswith("test_registry.Pi3")
    assert [parameter.name for parameter in first.parameters] == ["width", "name"]
    assert second.parameters == ()


def test_the_error_for_an_unknown_name_lists_close_matches_and_all_names(heads):
    with pytest.raises(UnknownNameError) as caught:
        heads["pi4"]
    assert str(caught.value) == "no camera_head named 'pi4'; did you mean 'pi3'? known: pi3, rot6d"
    assert isinstance(caught.value, RegistryError | LookupError)
    with pytest.raises(UnknownNameError, match=r"no camera_head named 'zzzzzz'; known: pi3, rot6d"):
        heads["zzzzzz"]
    with pytest.raises(UnknownNameError, match=r"known: \(none\)"):
        Registry("camera_head", Head)["pi3"]


def test_the_name_of_an_unregistered_class_is_an_error(heads):
    with pytest.raises(UnknownNameError, match=r"builtins\.int is not a registered camera_head"):
        heads.name_of(int)


def test_two_classes_cannot_share_a_name(heads):
    class Other(Rot6d):
        """Another."""

    with pytest.raises(DuplicateNameError) as caught:
        heads.register("pi3")(Other)
    assert "camera_head 'pi3'" in str(caught.value)
    assert "Other clashes with" in str(caught.value)
    assert str(caught.value).endswith("test_registry.Pi3")
    assert heads["pi3"] is Pi3


def test_a_reloaded_class_replaces_itself(heads):
    reloaded = type("Pi3", (Pi3,), {"__doc__": "New.", "__module__": Pi3.__module__, "__qualname__": "Pi3"})
    heads.register("pi3")(reloaded)
    assert heads["pi3"] is reloaded
    assert len(heads) == 2


@pytest.mark.parametrize("name", ["Pi3", "pi-3", "3pi", "", "pi 3", "_pi", "torch.nn"])
def test_a_name_must_be_snake_case(heads, name):
    with pytest.raises(RegistryError, match=r"must be snake_case, e\.g\. 'pi3'"):
        heads.register(name)


def test_only_subclasses_of_the_interface_can_register(heads):
    for wrong in (int, lambda: None, "pi3"):
        with pytest.raises(ContractError, match="must subclass Head"):
            heads.register("wrong")(wrong)


def test_the_error_for_an_abstract_class_names_the_missing_methods(heads):
    class Half(Head):
        """Half."""

    with pytest.raises(ContractError, match=r"'half' \(.*Half\) must implement: read"):
        heads.register("half")(Half)


def test_a_class_without_a_docstring_is_an_error(heads):
    class Silent(Pi3):
        pass

    with pytest.raises(ContractError, match="needs a docstring; its first line is shown in the catalogue"):
        heads.register("silent")(Silent)


def test_variadic_parameters_are_an_error(heads):
    class Keywords(Rot6d):
        """Open."""

        def __init__(self, *, width: int, **rest: int) -> None: ...

    class Positions(Rot6d):
        """Open."""

        def __init__(self, *rest: int) -> None: ...

    with pytest.raises(ContractError, match=r"'\*\*rest: int' would hide misspelt keys; name every parameter"):
        heads.register("open")(Keywords)
    with pytest.raises(ContractError, match=r"'\*rest: int' would hide"):
        heads.register("open")(Positions)


def test_parameters_need_annotations(heads):
    class Untyped(Rot6d):
        """Untyped."""

        def __init__(self, *, width) -> None: ...

    with pytest.raises(ContractError, match="parameter 'width' has no type annotation"):
        heads.register("untyped")(Untyped)


def test_a_rejected_class_is_not_registered(heads):
    for wrong in (int, Head):
        with pytest.raises(ContractError):
            heads.register("wrong")(wrong)
    assert "wrong" not in heads


def test_temporarily_restores_the_registry(heads):
    class Extra(Rot6d):
        """Extra."""

    with heads.temporarily("extra", Extra):
        assert heads["extra"] is Extra
    assert "extra" not in heads
    with pytest.raises(ZeroDivisionError), heads.temporarily("extra", Extra):
        _ = 1 / 0
    assert [entry.name for entry in heads] == ["pi3", "rot6d"]


def test_the_first_lookup_imports_the_home_package(tmp_path, monkeypatch):
    (tmp_path / "toy_home_of_heads.py").write_text("loaded = True\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    registry = Registry("camera_head", Head, home="toy_home_of_heads")
    registry.register("pi3")(Pi3)
    assert "toy_home_of_heads" not in sys.modules
    assert "pi3" in registry
    assert "toy_home_of_heads" in sys.modules
    monkeypatch.delitem(sys.modules, "toy_home_of_heads")


def test_a_failed_import_of_the_home_package_runs_again(tmp_path, monkeypatch):
    registry = Registry("camera_head", Head, home="toy_home_that_appears")
    with pytest.raises(ModuleNotFoundError):
        registry["pi3"]
    (tmp_path / "toy_home_that_appears.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(UnknownNameError):
        registry["pi3"]
    monkeypatch.delitem(sys.modules, "toy_home_that_appears")


def test_did_you_mean_lists_close_matches_and_all_names():
    assert did_you_mean("pi4", ["rot6d", "pi3"]) == "; did you mean 'pi3'? known: pi3, rot6d"
    assert did_you_mean("widht", ["width", "weight"]) == "; did you mean 'width' or 'weight'? known: weight, width"
    assert did_you_mean("x", []) == "; known: (none)"
