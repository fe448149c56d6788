"""From JSON to objects in two steps: ``plan`` checks everything and reports all problems, ``construct`` builds."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from openrayzer.composer.leaves import LeafError, parse_leaf, shown
from openrayzer.composer.schema import REQUIRED, Parameter, Schema, parameters_of, without_none
from openrayzer.interfaces import InputError
from registry import Registry, RegistryError, did_you_mean


class ExperimentError(InputError):
    """An experiment cannot be built. The message lists all problems with their JSON paths.

    Args:
        problems: one sentence for each problem, e.g. ``train.steps: expected int, got true``.
        source: file with the problems, if there is one.
    """

    def __init__(self, problems: Sequence[str], *, source: Path | str | None = None) -> None:
        self.problems = tuple(dict.fromkeys(problems))
        place = f" in {source}" if source is not None else ""
        super().__init__("\n".join([f"{len(self.problems)} problem(s){place}", *self.problems]))


@dataclass(frozen=True)
class Plan:
    """A checked component or dataclass that is not built yet.

    Attributes:
        name: registered name; None for a dataclass.
        target: the class.
        arguments: all arguments in the order of the signature, so the order of JSON keys does not affect the weights.
            Arguments may be plans, or lists and tuples of plans.
        path: JSON path; empty for the whole document.
    """

    name: str | None
    target: type
    arguments: dict[str, Any]
    path: str = field(default="", compare=False)


def plan(
    spec: Any,
    interface: Any,
    *,
    registries: Iterable[Registry],
    shared: Mapping[str, Any] | None = None,
    path: str = "",
) -> Plan:
    """Check a spec against the constructors of its classes.

    Args:
        spec: parsed JSON, e.g. ``{"type": "rayzer", "camera_head": {"type": "pi3"}}``.
        interface: interface or dataclass of the result.
        registries: one for each interface. A parameter with an interface as annotation is a component.
        shared: values for required parameters with these names, where a spec gives no value.
        path: JSON path of ``spec`` for messages.

    Raises:
        ExperimentError: there are unknown names, unknown keys, wrong types or missing values; the message lists all.
    """
    checker = _Checker(Schema(registries), dict(shared or {}))
    result = checker.check(spec, interface, path)
    checker.check_shared()
    if checker.problems:
        raise ExperimentError(list(checker.problems))
    return result


def construct(planned: Any) -> Any:
    """Build a plan, children first, in the order of signatures. This works under ``torch.device("meta")``.

    Raises:
        ExperimentError: constructors raised a ValueError; the message lists all with their JSON paths.
    """
    failures: list[tuple[str, ValueError]] = []
    built = _construct(planned, failures)
    if failures:
        problems = [f"{path or 'experiment'}: {error}" for path, error in failures]
        raise ExperimentError(problems) from failures[0][1]
    return built


def resolved(planned: Any) -> Any:
    """The plan as plain JSON with all defaults; a plan of this JSON is equal."""
    if isinstance(planned, list | tuple):
        return [resolved(item) for item in planned]
    if isinstance(planned, dict):
        return {key: resolved(value) for key, value in planned.items()}
    if isinstance(planned, Plan):
        head = {"type": planned.name} if planned.name else {}
        return head | resolved(planned.arguments)
    if isinstance(planned, Path):
        return str(planned)
    return planned.name if isinstance(planned, Enum) else planned


def join(path: str, key: str) -> str:
    """JSON path of a key in the object at ``path``."""
    return f"{path}.{key}" if path else key


def _construct(planned: Any, failures: list[tuple[str, ValueError]]) -> Any:
    if isinstance(planned, list | tuple):
        return type(planned)(_construct(item, failures) for item in planned)
    if not isinstance(planned, Plan):
        return planned
    before = len(failures)
    arguments = {key: _construct(value, failures) for key, value in planned.arguments.items()}
    if len(failures) > before:  # without its child this object cannot be built
        return None
    try:
        return planned.target(**arguments)
    except ValueError as error:
        failures.append((planned.path, error))
        return None


class _Checker:
    """One pass over a spec that collects all problems."""

    def __init__(self, schema: Schema, shared: dict[str, Any]) -> None:
        self.schema, self.shared = schema, shared
        self.used: set[str] = set()
        self.known: set[str] = set()  # names of all parameters in the spec, for messages about shared
        self.complete = True  # False if the parameters of a component are unknown
        self.problems: dict[str, None] = {}

    def problem(self, path: str, message: str) -> None:
        self.problems[f"{path}: {message}" if path else message] = None

    def check(self, spec: Any, hint: Any, path: str) -> Any:
        inner, optional = without_none(hint)
        if optional and spec is None:
            return None
        registry, element = self.schema.registry(inner), self.schema.element(inner)
        if registry is not None:
            return self.check_component(spec, registry, inner, path)
        if element is not None:
            return self.check_list(spec, inner, element, path)
        if is_dataclass(inner):
            return self.check_dataclass(spec, inner, path)
        try:
            return parse_leaf(spec, hint)
        except LeafError as error:
            return self.problem(path, str(error))

    def check_list(self, spec: Any, hint: Any, element: Any, path: str) -> Any:
        if not isinstance(spec, list):
            self.complete = False
            return self.problem(path, f"expected a list, got {shown(spec)}")
        items = [self.check(item, element, f"{path}[{i}]") for i, item in enumerate(spec)]
        return items if getattr(hint, "__origin__", list) is list else tuple(items)

    def check_dataclass(self, spec: Any, target: Any, path: str) -> Plan | None:
        if not isinstance(spec, Mapping):
            self.complete = False
            self.problem(path, f"expected an object {{...}} ({target.__name__}), got {shown(spec)}")
            return None
        return Plan(None, target, self.check_arguments(spec, target, target.__name__, path), path)

    def check_component(self, spec: Any, registry: Registry, interface: type, path: str) -> Plan | None:
        if not isinstance(spec, Mapping) or not isinstance(spec.get("type"), str):
            self.complete = False
            self.problem(path, f'expected {{"type": <{registry.kind}>, ...}}, got {shown(spec)}')
            return None
        name = spec["type"]
        try:
            target = registry[name]
        except RegistryError as error:
            self.complete = False
            self.problem(join(path, "type"), str(error))
            return None
        if not issubclass(target, interface):
            fitting = ", ".join(repr(entry.name) for entry in registry if issubclass(entry.target, interface))
            self.complete = False
            self.problem(join(path, "type"), f"{name!r} is no {interface.__name__}; take one of {fitting}")
            return None
        given = {key: value for key, value in spec.items() if key != "type"}
        return Plan(name, target, self.check_arguments(given, target, name, path), path)

    def check_arguments(self, spec: Mapping[str, Any], target: type, name: str, path: str) -> dict[str, Any]:
        try:
            takes = parameters_of(target)
        except NameError as error:
            self.problem(path, f"{name!r} has an annotation that cannot be resolved: {error}")
            return {}
        self.known |= takes.keys()
        for key in spec:
            if key not in takes:
                self.problem(join(path, key), f"{name!r} has no such parameter{did_you_mean(key, takes)}")
        return {key: self.check_parameter(parameter, spec, name, path) for key, parameter in takes.items()}

    def check_parameter(self, parameter: Parameter, spec: Mapping[str, Any], name: str, path: str) -> Any:
        here = join(path, parameter.name)
        if parameter.name in spec:
            return self.check(spec[parameter.name], parameter.hint, here)
        if parameter.default is not REQUIRED:
            return self.check(_as_json(parameter.default), parameter.hint, f"{here} (its default)")
        if parameter.name in self.shared:
            self.used.add(parameter.name)
            return self.check(self.shared[parameter.name], parameter.hint, f"shared.{parameter.name}")
        return self.problem(here, f"required by {name!r} and missing")

    def check_shared(self) -> None:
        if not self.complete:  # an unknown component might take these keys
            return
        for key in self.shared.keys() - self.used:
            if key in self.known:
                message = f"not needed, because every {key!r} has a value or a default; remove it"
            else:
                message = f"no component takes this; remove it or fix its name{did_you_mean(key, self.known)}"
            self.problem(f"shared.{key}", message)


def _as_json(default: Any) -> Any:
    """A default as JSON. A default without JSON form stays the same, and the check refuses it."""
    if is_dataclass(default) and not isinstance(default, type):
        return {item.name: _as_json(getattr(default, item.name)) for item in fields(default) if item.init}
    if isinstance(default, list | tuple):
        return [_as_json(item) for item in default]
    return resolved(default)
