"""Schema of an experiment file, from the signatures of constructors."""

import inspect
from collections.abc import Iterable
from dataclasses import MISSING, dataclass, fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from registry import Registry

REQUIRED = inspect.Parameter.empty
"""Default of a required parameter."""


@dataclass(frozen=True)
class Parameter:
    """One parameter of a constructor; ``default`` is ``REQUIRED`` for a required parameter."""

    name: str
    hint: Any
    default: Any


def parameters_of(target: type) -> dict[str, Parameter]:
    """Parameters of a component or dataclass, in the order of its signature.

    Raises:
        NameError: an annotation contains a name that its module does not define.
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
        found[parameter.name] = Parameter(parameter.name, hints[parameter.name], default)
    return found


def without_none(hint: Any) -> tuple[Any, bool]:
    """(X, True) for ``X | None``; (hint, False) for any other annotation."""
    inner = get_args(hint)
    if get_origin(hint) in (Union, UnionType) and NoneType in inner and len(inner) == 2:
        return next(arg for arg in inner if arg is not NoneType), True
    return hint, False


class Schema:
    """Schema of JSON objects: the annotations that are components or dataclasses, and the annotations inside them.

    Args:
        registries: one for each interface. A parameter with an interface as annotation is a component.
    """

    def __init__(self, registries: Iterable[Registry]) -> None:
        self._registries = {registry.interface: registry for registry in registries}

    def registry(self, hint: Any) -> Registry | None:
        """Registry of the interface ``hint``, or of the interface that it narrows; None if it is not an interface."""
        if not isinstance(hint, type):
            return None
        return next((self._registries[base] for base in hint.__mro__ if base in self._registries), None)

    def is_object(self, hint: Any) -> bool:
        """True if ``hint`` is an interface or a dataclass."""
        return isinstance(hint, type) and (self.registry(hint) is not None or is_dataclass(hint))

    def element(self, hint: Any) -> Any:
        """X for ``list[X]`` and ``tuple[X, ...]`` if X is an interface or dataclass, otherwise None."""
        origin, inner = get_origin(hint), get_args(hint)
        many = origin is list or (origin is tuple and len(inner) == 2 and inner[1] is Ellipsis)
        return inner[0] if many and self.is_object(without_none(inner[0])[0]) else None

    def child(self, hint: Any, spec: Any, key: str | int) -> Any:
        """Annotation of ``spec[key]`` for a ``spec`` with annotation ``hint``; None if it is unknown."""
        hint, _ = without_none(hint)
        if isinstance(key, int):
            return self.element(hint)
        target = hint if self.is_object(hint) else None
        registry = self.registry(hint)
        if registry is not None:
            name = spec.get("type") if isinstance(spec, dict) else None
            target = registry[name] if isinstance(name, str) and name in registry else None
        parameter = parameters_of(target).get(key) if target is not None else None
        return parameter.hint if parameter is not None else None
