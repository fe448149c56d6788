"""What a constructor takes, read off its signature: the schema of an experiment file."""

import inspect
from collections.abc import Iterable
from dataclasses import MISSING, dataclass, fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from registry import Registry

REQUIRED = inspect.Parameter.empty
"""The default of a parameter that has none."""


@dataclass(frozen=True)
class Slot:
    """One parameter of a constructor; ``default`` is ``REQUIRED`` if it has none."""

    name: str
    hint: Any
    default: Any


def slots(target: type) -> dict[str, Slot]:
    """The parameters of a component or dataclass, in signature order.

    Raises:
        NameError: an annotation names something that its module does not know.
    """
    constructor = inspect.getattr_static(target, "__init__")
    parameters = list(inspect.signature(constructor).parameters.values())[1:]
    hints = get_type_hints(constructor)
    factories = {}
    if is_dataclass(target):
        factories = {item.name: item.default_factory for item in fields(target)}
    found = {}
    for parameter in parameters:
        factory = factories.get(parameter.name, MISSING)
        default = parameter.default if factory is MISSING else factory()
        found[parameter.name] = Slot(parameter.name, hints[parameter.name], default)
    return found


def without_none(hint: Any) -> tuple[Any, bool]:
    """``X | None`` as (X, True); any other annotation as (itself, False)."""
    inner = get_args(hint)
    if get_origin(hint) in (Union, UnionType) and NoneType in inner and len(inner) == 2:
        return next(arg for arg in inner if arg is not NoneType), True
    return hint, False


class Schema:
    """Which annotations are objects in JSON, and what is inside them.

    Args:
        registries: one per interface; a parameter annotated with an interface is a component.
    """

    def __init__(self, registries: Iterable[Registry]) -> None:
        self._registries = {registry.interface: registry for registry in registries}

    def registry(self, hint: Any) -> Registry | None:
        """The registry that fills ``hint``; None if it is not a component."""
        return self._registries.get(hint) if isinstance(hint, type) else None

    def is_object(self, hint: Any) -> bool:
        """Whether ``hint`` is a component or a dataclass."""
        return isinstance(hint, type) and (hint in self._registries or is_dataclass(hint))

    def element(self, hint: Any) -> Any:
        """X of ``list[X]`` or ``tuple[X, ...]`` where X is a component or dataclass; else None."""
        origin, inner = get_origin(hint), get_args(hint)
        many = origin is list or (origin is tuple and len(inner) == 2 and inner[1] is Ellipsis)
        return inner[0] if many and self.is_object(without_none(inner[0])[0]) else None

    def child(self, hint: Any, spec: Any, key: str | int) -> Any:
        """The annotation of ``spec[key]`` where ``spec`` is annotated ``hint``; None if that is unknown."""
        hint, _ = without_none(hint)
        if isinstance(key, int):
            return self.element(hint)
        target = hint if self.is_object(hint) else None
        registry = self.registry(hint)
        if registry is not None:
            name = spec.get("type") if isinstance(spec, dict) else None
            target = registry[name] if isinstance(name, str) and name in registry else None
        slot = slots(target).get(key) if target is not None else None
        return slot.hint if slot is not None else None
